import pytest
import torch

from pyro_llm.errors import OptionError
from pyro_llm.ops.resampling import RESAMPLING_SCHEMES, ancestors_of_uniforms, resampling_scheme, systematic

SCHEMES = pytest.mark.parametrize("scheme", RESAMPLING_SCHEMES.values(), ids=RESAMPLING_SCHEMES)


def counts(ancestors, num_particles):
    return torch.stack([torch.bincount(run, minlength=num_particles) for run in ancestors])


@SCHEMES
@pytest.mark.parametrize("num_offspring", [1, 3, 4, 9])
def test_expected_offspring_is_proportional_to_weight(scheme, num_offspring):
    """Null: E[offspring of n] = M W_n. 20,000 runs; a bound of 4.5 standard errors on 4 particles has a false-alarm
    rate below 3e-5 for each case."""
    weights = torch.tensor([0.1, 0.0, 0.62, 0.28], dtype=torch.float64)
    runs = 20_000
    generator = torch.Generator().manual_seed(0)
    ancestors = scheme(weights.log().expand(runs, 4), num_offspring, generator)
    assert ancestors.shape == (runs, num_offspring)
    offspring = counts(ancestors, 4).double()
    error = offspring.std(0) / runs**0.5
    assert (offspring.mean(0) - num_offspring * weights).abs().le(4.5 * error + 1e-12).all()


@pytest.mark.parametrize("num_particles", [2, 1000, 16_384])
def test_systematic_offspring_are_floor_or_ceiling(num_particles):
    generator = torch.Generator().manual_seed(1)
    log_weights = 3 * torch.randn(8, num_particles, dtype=torch.float64, generator=generator)
    expected = num_particles * log_weights.softmax(-1)
    offspring = counts(systematic(log_weights, num_particles, generator), num_particles)
    assert (offspring >= (expected - 1e-6).floor()).all()
    assert (offspring <= (expected + 1e-6).ceil()).all()


def test_systematic_keeps_each_of_many_equal_particles():
    """Sums in float32 lose this from a few thousand particles on."""
    ancestors = systematic(torch.full((4, 16_384), -7.3), 16_384, torch.Generator().manual_seed(2))
    assert (ancestors == torch.arange(16_384)).all()


@SCHEMES
def test_runs_are_resampled_with_their_own_uniforms(scheme):
    weights = torch.tensor([0.5, 0.5]).log().expand(200, 2)
    first = scheme(weights, 1, torch.Generator().manual_seed(3)).flatten()
    assert 60 < first.sum() < 140  # one shared uniform would give 0 or 200; this fails once in 1e8 seeds


@SCHEMES
def test_zero_weights_have_no_offspring(scheme):
    weights = torch.tensor([0.0, 0.0, 0.3, 0.0, 0.7, 0.0, 0.0], dtype=torch.float64)
    ancestors = scheme(weights.log().expand(5000, 7), 7, torch.Generator().manual_seed(4))
    assert set(ancestors.unique().tolist()) == {2, 4}


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53, 1.0])
def test_extreme_uniforms_choose_no_zero_weight(uniform):
    weights = torch.tensor([[0.0, 0.1, 0.9, 0.0], [0.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    chosen = ancestors_of_uniforms(weights.log(), torch.full((2, 1), uniform)).flatten()
    assert (weights[torch.arange(2), chosen] > 0).all()


def test_scale_of_the_weights_does_not_matter():
    log_weights = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    shifted = [systematic(log_weights + c, 5, torch.Generator().manual_seed(5)) for c in (0.0, -5000.0, 5000.0)]
    assert torch.equal(shifted[0], shifted[1]) and torch.equal(shifted[0], shifted[2])


def test_unknown_scheme():
    with pytest.raises(OptionError, match="'stratified'; choose one of 'systematic', 'multinomial'"):
        resampling_scheme("stratified")
