"""SMC on the linear-Gaussian model, held against the Kalman filter."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.handlers.loop import loop
from pyro_llm.infer import SMC, Importance

TRANSITION, STATE_NOISE, OBSERVATION_NOISE = 0.9, 0.5, 0.7
OBSERVATIONS = torch.tensor([0.3, 1.1, 0.8, 2.1, 2.4, 1.9])


def kalman(observations):
    """Log-evidence, and mean and variance of the last state."""
    mean, variance, log_evidence = 0.0, 1.0, 0.0
    for t, y in enumerate(observations.double().tolist()):
        if t > 0:
            mean, variance = TRANSITION * mean, TRANSITION**2 * variance + STATE_NOISE**2
        innovation = variance + OBSERVATION_NOISE**2
        log_evidence -= 0.5 * (math.log(2 * math.pi * innovation) + (y - mean) ** 2 / innovation)
        gain = variance / innovation
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
    return log_evidence, mean, variance


LOG_EVIDENCE, LAST_MEAN, LAST_VARIANCE = kalman(OBSERVATIONS)


def step(t, x, y):
    loc, scale = (TRANSITION * x, STATE_NOISE) if t else (0.0, 1.0)
    x = pyro.sample(f"x_{t}", dist.Normal(loc, scale))
    pyro.sample(f"y_{t}", dist.Normal(x, OBSERVATION_NOISE), obs=y)
    return x


def linear_gaussian(observations):
    x = None
    for t, y in enumerate(observations):
        x = step(t, x, y)
    return x


def in_a_loop(observations):
    state = {"x": torch.tensor(0.0)}
    for t in loop("time", len(observations), state):
        state["x"] = step(t, state["x"], observations[t])
    return state["x"]


@pytest.mark.parametrize(
    ("ess_threshold", "resampling"),
    [(0, "systematic"), (0.5, "systematic"), (1.0, "systematic"), (0.5, "multinomial"), (1.0, "multinomial")],
)
@pytest.mark.parametrize("num_particles", [1, 2, 5, 50])
def test_evidence_and_filtered_moments(num_particles, ess_threshold, resampling, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z; 2,000 runs. Three comparisons by 4 standard errors: false alarms 2e-4 a case at most."""
    options = {"num_runs": 2000, "ess_threshold": ess_threshold, "resampling": resampling, "progress": False}
    posterior = SMC(linear_gaussian, num_particles, **options).run(OBSERVATIONS)
    assert_mean((posterior.log_evidence - LOG_EVIDENCE).exp(), 1.0)
    last = posterior.returns.double()
    assert_posterior_mean(posterior, last, LAST_MEAN)
    assert_posterior_mean(posterior, (last - LAST_MEAN) ** 2, LAST_VARIANCE)


@pytest.mark.parametrize("model", [linear_gaussian, in_a_loop])
def test_long_series(model, assert_mean):
    """Null: E[Z-hat] = Z; 60 observations, 500 runs of 100 particles. False alarms 6e-5; adaptive resampling, loop."""
    generator = torch.Generator().manual_seed(3)
    observations = 1.3 * torch.randn(60, generator=generator)
    exact, *_ = kalman(observations)
    posterior = SMC(model, 100, num_runs=500, progress=False).run(observations)
    assert 5 < posterior.stats.resampled[0].sum() < 59
    assert_mean((posterior.log_evidence - exact).exp(), 1.0)


@pytest.mark.parametrize("ess_threshold", [0.5, 1.0])
def test_scalar_particles(ess_threshold, assert_mean, assert_posterior_mean):
    """Null: as for vectorised particles; 200 runs of 3 particles. False alarms 1.2e-4."""
    options = {"num_runs": 200, "ess_threshold": ess_threshold, "particles": "scalar", "progress": False}
    posterior = SMC(linear_gaussian, 3, **options).run(OBSERVATIONS[:3])
    log_evidence, mean, _ = kalman(OBSERVATIONS[:3])
    assert_mean((posterior.log_evidence - log_evidence).exp(), 1.0)
    assert_posterior_mean(posterior, posterior.returns.double(), mean)


def test_importance(assert_mean):
    """Null: E[Z-hat] = Z; 2,000 runs of 20 particles. False alarms 6e-5."""
    posterior = Importance(linear_gaussian, 20, num_runs=2000, progress=False).run(OBSERVATIONS)
    assert_mean((posterior.log_evidence - LOG_EVIDENCE).exp(), 1.0)


def test_runs_in_a_batch_have_the_law_of_single_runs():
    """Null: log Z-hat of 300 runs in one batch and of 300 runs by themselves have one distribution.

    Two-sample Kolmogorov-Smirnov test at level 1e-4: the statistic exceeds 2.225 sqrt(2 / 300) with that probability.
    """
    options = {"num_particles": 8, "ess_threshold": 0.6, "progress": False}
    observations = OBSERVATIONS[:4]
    batched = SMC(linear_gaussian, num_runs=300, **options).run(observations).log_evidence
    single = torch.cat([SMC(linear_gaussian, **options).run(observations).log_evidence for _ in range(300)])
    grid = torch.cat([batched, single])
    below = [(sample[:, None] <= grid).double().mean(0) for sample in (batched, single)]
    assert (below[0] - below[1]).abs().max() < 2.225 * (2 / 300) ** 0.5


def test_runs_in_a_batch_are_independent(assert_mean):
    """Null: neighbouring runs are uncorrelated. 3,000 pairs, 4 standard errors: false alarms 6e-5."""
    posterior = SMC(linear_gaussian, 3, num_runs=6000, ess_threshold=1.0, progress=False).run(OBSERVATIONS)
    centred = (posterior.log_evidence - posterior.log_evidence.mean()).reshape(-1, 2)
    assert_mean(centred.prod(-1), 0.0)
