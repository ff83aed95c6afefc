import pytest
import torch

from pyro_llm.errors import OptionError
from pyro_llm.ops.resampling import RESAMPLING_SCHEMES, ancestors_of_uniforms, resampling_scheme
from pyro_llm.ops.resampling.optimal import without_replacement

SCHEMES = pytest.mark.parametrize("scheme", RESAMPLING_SCHEMES.values(), ids=RESAMPLING_SCHEMES)


systematic = resampling_scheme("systematic")


def counts(resampled, num_particles):
    """Total weight of the offspring of each particle; their number where they weigh the same."""
    totals = torch.zeros(len(resampled.ancestors), num_particles, dtype=torch.float64)
    return totals.scatter_add_(1, resampled.ancestors, resampled.log_weights.exp())


@SCHEMES
@pytest.mark.parametrize("num_offspring", [1, 3, 4, 9])
def test_expected_offspring_is_proportional_to_weight(scheme, num_offspring):
    """Null: E[offspring of n] = M W_n. 20,000 runs; a bound of 4.5 standard errors on 4 particles has a false-alarm
    rate below 3e-5 for each case."""
    weights = torch.tensor([0.1, 0.0, 0.62, 0.28], dtype=torch.float64)
    runs = 20_000
    generator = torch.Generator().manual_seed(0)
    resampled = scheme(weights.log().expand(runs, 4), num_offspring, generator)
    assert resampled.ancestors.shape == resampled.log_weights.shape == (runs, num_offspring)
    offspring = counts(resampled, 4)
    error = offspring.std(0) / runs**0.5
    assert (offspring.mean(0) - num_offspring * weights).abs().le(4.5 * error + 1e-12).all()


@pytest.mark.parametrize("name", ["systematic", "ssp"])
@pytest.mark.parametrize("num_offspring", [1, 700, 16_384])
@pytest.mark.parametrize("num_particles", [2, 1000, 16_384])
def test_systematic_and_ssp_offspring_are_floor_or_ceiling(num_particles, num_offspring, name):
    generator = torch.Generator().manual_seed(1)
    log_weights = 3 * torch.randn(8, num_particles, dtype=torch.float64, generator=generator)
    expected = num_offspring * log_weights.softmax(-1)
    offspring = counts(resampling_scheme(name)(log_weights, num_offspring, generator), num_particles)
    assert (offspring.sum(-1) == num_offspring).all()
    assert (offspring >= (expected - 1e-6).floor()).all()
    assert (offspring <= (expected + 1e-6).ceil()).all()


@pytest.mark.parametrize("name", [name for name in RESAMPLING_SCHEMES if name != "multinomial"])
@pytest.mark.parametrize("num_particles", [3, 1000, 16_384])
def test_each_of_many_equal_particles_is_kept(name, num_particles):
    """Sums in float32 lose this from a few thousand particles on. Stratified resampling need not keep each."""
    log_weights = torch.full((4, num_particles), -7.3, dtype=torch.float64)
    resampled = resampling_scheme(name)(log_weights, num_particles, torch.Generator().manual_seed(2))
    torch.testing.assert_close(resampled.log_weights, torch.zeros(4, num_particles).double(), rtol=0, atol=1e-9)
    assert (resampled.ancestors.sort(-1).values == torch.arange(num_particles)).all()


@pytest.mark.parametrize("factor", [1, 3])
def test_optimal_keeps_heavy_weights_exactly_among_many(factor):
    """16,384 particles: what has a weight of 1/M or more has it afterwards too, split among its copies."""
    generator = torch.Generator().manual_seed(6)
    log_weights = 3 * torch.randn(4, 16_384, dtype=torch.float64, generator=generator)
    num_offspring = 16_384 // factor
    resampled = resampling_scheme("optimal")(log_weights, num_offspring, generator)
    expected = num_offspring * log_weights.softmax(-1)
    after = counts(resampled, 16_384)
    heavy = expected >= 1
    torch.testing.assert_close(after[heavy], expected[heavy], rtol=1e-9, atol=0)
    torch.testing.assert_close(after.sum(-1), torch.full((4,), num_offspring).double())
    assert resampled.log_weights.exp().max() < 2  # a copy of M W in [k, k + 1) weighs M W / k


@pytest.mark.parametrize("num_offspring", [1, 100, 10_000])
def test_without_replacement_none_is_kept_twice(num_offspring):
    generator = torch.Generator().manual_seed(7)
    log_weights = 3 * torch.randn(4, 16_384, dtype=torch.float64, generator=generator)
    uniforms = torch.rand(4, 1, dtype=torch.float64, generator=generator)
    kept = without_replacement(log_weights, num_offspring, uniforms)
    assert all(len(set(run)) == num_offspring for run in kept.ancestors.tolist())
    expected = num_offspring * log_weights.softmax(-1).gather(-1, kept.ancestors)
    drawn_weight = kept.log_weights.min(-1, keepdim=True).values.exp()
    torch.testing.assert_close(kept.log_weights.exp(), torch.maximum(expected, drawn_weight), rtol=1e-9, atol=0)


def test_without_replacement_has_dead_slots_where_particles_are_few():
    weights = torch.tensor([[0.0, 0.25, 0.75], [0.2, 0.5, 0.3]], dtype=torch.float64)
    kept = without_replacement(weights.log(), 4, torch.tensor([[0.3], [0.3]]))
    torch.testing.assert_close(counts(kept, 3), 4 * weights)
    assert kept.log_weights.isneginf().sum(-1).tolist() == [2, 1]


def test_killing_leaves_survivors_in_their_slots():
    log_weights = torch.tensor([[0.3, 0.3, 0.1, 0.3]], dtype=torch.float64).log().expand(3000, 4)
    ancestors = resampling_scheme("killing")(log_weights, 4, torch.Generator().manual_seed(8)).ancestors
    assert (ancestors[:, [0, 1, 3]] == torch.tensor([0, 1, 3])).all()
    survived = (ancestors[:, 2] == 2).double().mean()
    assert abs(survived - (1 / 3 + 2 / 3 * 0.1)) < 4 * (0.4 * 0.6 / 3000) ** 0.5  # false alarms 6e-5


@SCHEMES
def test_runs_are_resampled_with_their_own_uniforms(scheme):
    weights = torch.tensor([0.5, 0.5]).log().expand(200, 2)
    first = scheme(weights, 1, torch.Generator().manual_seed(3)).ancestors.flatten()
    assert 60 < first.sum() < 140  # one shared uniform would give 0 or 200; this fails once in 1e8 seeds


@SCHEMES
def test_zero_weights_have_no_offspring(scheme):
    weights = torch.tensor([0.0, 0.0, 0.3, 0.0, 0.7, 0.0, 0.0], dtype=torch.float64)
    ancestors = scheme(weights.log().expand(5000, 7), 7, torch.Generator().manual_seed(4)).ancestors
    assert set(ancestors.unique().tolist()) == {2, 4}


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53, 1.0])
def test_extreme_uniforms_choose_no_zero_weight(uniform):
    weights = torch.tensor([[0.0, 0.1, 0.9, 0.0], [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    chosen = ancestors_of_uniforms(weights.log(), torch.full((2, 1), uniform)).flatten()
    assert (weights[torch.arange(2), chosen] > 0).all()


@SCHEMES
def test_scale_of_the_weights_does_not_matter(scheme):
    log_weights = torch.tensor([[0.0, 1.1, 2.3]], dtype=torch.float64)
    shifted = [scheme(log_weights + c, 5, torch.Generator().manual_seed(5)) for c in (0.0, -5000.0, 5000.0)]
    for other in shifted[1:]:
        assert torch.equal(other.ancestors, shifted[0].ancestors)
        torch.testing.assert_close(other.log_weights, shifted[0].log_weights)


def test_unknown_scheme():
    with pytest.raises(OptionError, match="'bootstrap'; choose one of 'systematic', 'multinomial', 'stratified'"):
        resampling_scheme("bootstrap")


@pytest.mark.parametrize("name", ["residual", "ssp", "optimal"])
def test_whole_numbers_of_expected_offspring_are_met_in_spite_of_rounding(name):
    """M W of 1, 2 and 7 in a thousand scalings, in some of which the floor of M W would be one less."""
    scale = torch.linspace(-20, 20, 1000, dtype=torch.float64)[:, None]
    log_weights = torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64).log() + scale
    assert (10 * log_weights.softmax(-1)).floor().sum() < 10_000
    resampled = resampling_scheme(name)(log_weights, 10, torch.Generator().manual_seed(9))
    assert (resampled.ancestors.sort(-1).values == torch.tensor([0, 1, 1, *[2] * 7])).all()
