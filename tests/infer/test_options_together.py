"""Options of SMC that meet in one resampling."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_llm
from pyro_llm.infer import SMC, AdaptiveTempering, Posterior

PARTICLES = pytest.mark.parametrize("particles", ["vectorized", "scalar"])


@PARTICLES
def test_a_rule_of_ones_own_sees_the_potential(particles):
    seen = []

    def rule(log_weights):
        seen.append(log_weights)
        return torch.tensor([True])

    def model():
        for t in range(3):
            pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))
            pyro.factor(f"even_{t}", torch.zeros(()))
            pyro_llm.twist(f"psi_{t}", torch.tensor(10.0 * t))

    def look_ahead(name, distribution):
        return distribution.mean + 100

    posterior = SMC(model, 6, particles=particles, resample_when=rule, look_ahead=look_ahead, progress=False).run()
    assert posterior.stats.resampled.tolist() == [[True, True, False]]
    first, second = (log_weights.unique().tolist() for log_weights in seen)
    assert first == [100.0]
    assert second == [10.0]  # the first look-ahead has been divided out, and the second has taken its place
    assert posterior.log_evidence.item() == pytest.approx(0.0)


def steps():
    for t in range(3):
        x = pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))
        pyro.factor(f"y_{t}", -(x**2))


def test_exchanged_and_tempered_runs_are_saved(tmp_path):
    options = {"num_runs": 3, "island_threshold": 1, "resampling": "optimal"}
    pyro.set_rng_seed(0)
    smc = SMC(steps, 6, ess_threshold=1, tempering=AdaptiveTempering(ess_target=0.9), progress=False, **options)
    posterior = smc.run()
    assert posterior.stats.num_exchanges == 2
    posterior.save(tmp_path / "posterior.nc")
    loaded = Posterior.load(tmp_path / "posterior.nc")
    for name in ("inverse_temperature", "islands", "exchanged"):
        np.testing.assert_array_equal(getattr(loaded.stats, name), getattr(posterior.stats, name))
