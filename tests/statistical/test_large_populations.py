"""A million particles and more: what single precision could not tell apart, and the engine must.

In float32 the steps of a distribution function over N particles, 1/N wide, are rounded to 6e-8.
"""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.infer import SMC
from pyro_llm.ops.resampling import RESAMPLING_SCHEMES

N = 3_000_017


@pytest.mark.parametrize("uniform", [0.02, 0.5, 0.98])
def test_equal_weights_have_one_offspring_each(uniform):
    """By systematic resampling, wherever its points lie in their strata."""
    uniforms = torch.full((1, 1), uniform, dtype=torch.float64)
    log_weights = torch.full((1, N), -1000.0, dtype=torch.float64)
    ancestors = RESAMPLING_SCHEMES["systematic"].apply(log_weights, N, uniforms).ancestors
    assert torch.equal(ancestors[0], torch.arange(N))


def test_offspring_are_the_floor_or_ceiling_of_what_is_expected():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(N, dtype=torch.float64, generator=generator) ** 3
    uniforms = torch.full((1, 1), 0.3, dtype=torch.float64)
    ancestors = RESAMPLING_SCHEMES["systematic"].apply(weights.log()[None], N, uniforms).ancestors
    offspring = torch.bincount(ancestors[0], minlength=N)
    expected = N * weights / weights.sum()
    assert (offspring >= (expected - 1e-6).floor()).all()
    assert (offspring <= (expected + 1e-6).ceil()).all()


@pytest.mark.parametrize("ess_threshold", [0, 1])
def test_the_evidence_keeps_its_digits(ess_threshold):
    """A factor that differs by particle, then one that is the same for all: log Z-hat to 1e-13, by `math.fsum`."""
    num_particles = 1_000_003

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("first", -500 - x.double() ** 2)
        pyro.sample("y", dist.Normal(x, 1.0))
        pyro.factor("second", torch.tensor(-math.pi, dtype=torch.float64))

    posterior = SMC(model, num_particles, ess_threshold=ess_threshold, progress=False).run()
    first = torch.from_numpy(posterior.stats.log_factor[0, 0])
    exact = math.log(math.fsum((first + 500).exp().tolist()) / num_particles) - 500 - math.pi
    assert posterior.log_evidence.item() == pytest.approx(exact, rel=1e-13)
    assert posterior.stats.resampled[0].tolist() == [ess_threshold == 1, False]
