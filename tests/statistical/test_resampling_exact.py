"""The law of each resampling scheme, by exact integration over the uniforms that drive it.

Given the weights, what a scheme returns is a piecewise constant function of its uniforms. The breakpoints along each
axis are found by bisection on the code itself, at many settings of the other uniforms; they cut the unit cube into
cells, on each of which the function is evaluated once. Another point of each cell shows that no breakpoint was missed.
"""

import pytest
import torch

from pyro_llm.ops.resampling import RESAMPLING_SCHEMES, ResamplingScheme
from pyro_llm.ops.resampling.optimal import without_replacement

SCHEMES = {**RESAMPLING_SCHEMES, "without replacement": ResamplingScheme(without_replacement, lambda n, m: 1)}
WEIGHTS = {
    "zero in the middle": [0.17, 0.0, 0.55, 0.28],
    "zeros at the ends": [0.0, 0.31, 0.07, 0.62, 0.0],
    "one heavy": [0.9, 0.03, 0.07],
    "all but equal": [0.26, 0.25, 0.23, 0.26],
    "single": [1.0],
}
SIZES = [1, 3, 4]
GRID = 600


def cases():
    for name, scheme in SCHEMES.items():
        for label, weights in WEIGHTS.items():
            for num_offspring in SIZES:
                yield pytest.param(scheme, weights, num_offspring, id=f"{name}-{label}-{num_offspring}")


CASES = pytest.mark.parametrize(("scheme", "weights", "num_offspring"), list(cases()))


def outcome(scheme, weights, num_offspring, uniforms):
    """Ancestors and weights of the offspring, for rows of uniforms; both in one tensor `[B, 2, M]`."""
    log_weights = torch.tensor(weights, dtype=torch.float64).log().expand(len(uniforms), -1)
    result = scheme.apply(log_weights, num_offspring, uniforms)
    return torch.stack([result.ancestors.double(), result.log_weights.exp()], 1)


def breakpoints(f, axis, num_axes, generator):
    """The points of one axis at which f jumps, for some of 40 settings of the other uniforms."""
    settings = torch.rand(40, num_axes, dtype=torch.float64, generator=generator)
    grid = torch.linspace(0, 1, GRID + 1, dtype=torch.float64)[:-1]

    def along(points, rows):
        uniforms = rows.clone()
        uniforms[:, axis] = points
        return f(uniforms)

    rows = settings.repeat_interleave(GRID, 0)
    values = along(grid.repeat(len(settings)), rows).unflatten(0, (len(settings), GRID))
    jumps = (values[:, 1:] != values[:, :-1]).flatten(2).any(-1)
    setting, left = jumps.nonzero(as_tuple=True)
    low, high, rows = grid[left], grid[left + 1], settings[setting]
    before = along(low, rows) if len(low) else None
    for _ in range(60):
        if not len(low):
            break
        middle = (low + high) / 2
        same = (along(middle, rows) == before).flatten(1).all(-1)
        low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return torch.tensor(sorted({round(point, 14) for point in high.tolist()}), dtype=torch.float64)


def cells(scheme, weights, num_offspring):
    """Volumes of the cells `[C]`, ancestors `[C, M]` and weights `[C, M]` of the offspring on them."""
    generator = torch.Generator().manual_seed(0)
    num_axes = scheme.num_uniforms(len(weights), num_offspring)

    def f(uniforms):
        return outcome(scheme, weights, num_offspring, uniforms)

    lefts, widths = [], []
    for axis in range(num_axes):
        edges = torch.cat([torch.zeros(1), breakpoints(f, axis, num_axes, generator), torch.ones(1)]).double().unique()
        lefts.append(edges[:-1])
        widths.append(edges.diff())
    if not num_axes:
        left = width = torch.zeros(1, 0, dtype=torch.float64)
    else:
        left = torch.cartesian_prod(*lefts).reshape(-1, num_axes)
        width = torch.cartesian_prod(*widths).reshape(-1, num_axes)
    volumes = width.prod(-1)
    inside = f(left + width * 0.5)
    for place in (torch.rand(width.shape, generator=generator).double(), 0.01, 0.99):
        wide = volumes > 1e-9
        assert torch.equal(f(left + width * place)[wide], inside[wide]), "a breakpoint was missed"
    return volumes, inside[:, 0].long(), inside[:, 1]


def shares(ancestors, weights, num_particles):
    """Total weight of the offspring of each particle, `[C, N]`; summing to M."""
    return torch.zeros(len(ancestors), num_particles, dtype=torch.float64).scatter_add_(1, ancestors, weights)


@CASES
def test_marginals(scheme, weights, num_offspring):
    """E[weight of n's offspring] = M W_n to 1e-12, weights of mean one, a zero weight never chosen."""
    volumes, ancestors, carried = cells(scheme, weights, num_offspring)
    assert volumes.sum().item() == pytest.approx(1, abs=1e-12)
    exact = num_offspring * torch.tensor(weights, dtype=torch.float64)
    expected = (volumes[:, None] * shares(ancestors, carried, len(weights))).sum(0)
    torch.testing.assert_close(expected, exact, rtol=0, atol=1e-12)
    torch.testing.assert_close(carried.mean(-1), torch.ones(len(volumes)).double(), rtol=0, atol=1e-12)
    assert (carried[exact[ancestors] == 0] == 0).all()
    if scheme is not SCHEMES["without replacement"]:  # which has dead slots where it has too few particles
        assert (exact[ancestors] > 0).all()


@pytest.mark.parametrize("name", ["systematic", "ssp"])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("num_offspring", [1, 3, 4, 11])
def test_floor_and_ceiling(name, weights, num_offspring):
    """Systematic and SSP resampling round M W down or up, on every cell."""
    volumes, ancestors, carried = cells(SCHEMES[name], weights, num_offspring)
    exact = num_offspring * torch.tensor(weights, dtype=torch.float64)
    counts = shares(ancestors, carried, len(weights))[volumes > 1e-12]
    assert (counts >= (exact - 1e-9).floor()).all() and (counts <= (exact + 1e-9).ceil()).all()


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("num_offspring", SIZES)
def test_residual_keeps_the_floor(weights, num_offspring):
    volumes, ancestors, carried = cells(SCHEMES["residual"], weights, num_offspring)
    exact = num_offspring * torch.tensor(weights, dtype=torch.float64)
    assert (shares(ancestors, carried, len(weights))[volumes > 1e-12] >= (exact - 1e-9).floor()).all()


def squared_error(name, weights, num_offspring):
    """Expected squared error of the weights that a scheme leaves to each particle, summed over particles."""
    volumes, ancestors, carried = cells(SCHEMES[name], weights, num_offspring)
    error = shares(ancestors, carried, len(weights)) - num_offspring * torch.tensor(weights, dtype=torch.float64)
    return float((volumes * (error**2).sum(-1)).sum())


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("num_offspring", SIZES)
def test_order_of_variances(weights, num_offspring):
    """Optimal <= systematic = SSP; stratified, residual and SSP <= multinomial. Exact."""
    error = {name: squared_error(name, weights, num_offspring) for name in SCHEMES}
    assert error["optimal"] <= error["systematic"] + 1e-12
    assert error["without replacement"] <= min(error.values()) + 1e-12
    assert error["ssp"] == pytest.approx(error["systematic"], abs=1e-12)  # both round: the variances are x (1 - x)
    assert max(error["stratified"], error["residual"], error["ssp"]) <= error["multinomial"] + 1e-12


def test_remainders_are_negatively_associated_under_ssp_but_not_systematic():
    """Cov(offspring of a and b) <= 0 for all pairs under SSP, not under systematic resampling."""
    weights = [0.3, 0.2, 0.3, 0.2]

    def covariances(name):
        volumes, ancestors, carried = cells(SCHEMES[name], weights, 2)
        error = shares(ancestors, carried, 4) - 2 * torch.tensor(weights, dtype=torch.float64)
        return torch.einsum("c,ca,cb->ab", volumes, error, error).triu(1)

    assert covariances("ssp").max() <= 1e-12
    assert covariances("systematic").max() > 0.01


def test_fearnhead_and_clifford_by_hand():
    """W = 0.5, 0.3, 0.1, 0.1 to M = 3: c solves 1 + min(0.3 c, 1) + 0.2 c = 3, so c = 5 and 0.3 >= 1/c is kept too."""
    volumes, ancestors, carried = cells(SCHEMES["without replacement"], [0.5, 0.3, 0.1, 0.1], 3)
    kept = {}
    for volume, slots, weights in zip(volumes.tolist(), ancestors.tolist(), carried.tolist(), strict=True):
        assert len(set(slots)) == 3
        key = tuple(sorted((slot, round(weight / 3, 12)) for slot, weight in zip(slots, weights, strict=True)))
        kept[key] = kept.get(key, 0.0) + volume
    light = {((0, 0.5), (1, 0.3), (n, 0.2)): pytest.approx(0.5) for n in (2, 3)}
    assert kept == light
