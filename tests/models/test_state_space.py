"""Model objects of `pyro.infer.SMCFilter`, run unchanged: Pyro's harmonic oscillator against the Kalman filter."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SMCFilter

from pyro_llm.errors import OptionError
from pyro_llm.infer import SMC
from pyro_llm.models import StateSpace

A = torch.tensor([[0.0, -1.0], [1.0, 0.0]]) * math.exp(-0.1) * 0.3 + 0.9 * torch.eye(2)
B = torch.tensor([0.3, 0.5])
NOISE = 0.4
INITIAL = torch.tensor([1.0, 0.0])
OBSERVATIONS = torch.tensor([0.7, 0.9, 1.4, 0.8, 1.9])


class Harmonic:
    """As `SimpleHarmonicModel` of Pyro's example of SMCFilter."""

    def __init__(self):
        self.A, self.B, self.sigma_y = A, B, NOISE

    def init(self, state, initial):
        self.t = 0
        state["z"] = pyro.sample("z_init", dist.Delta(initial, event_dim=1))

    def step(self, state, y=None):
        self.t += 1
        state["z"] = pyro.sample(f"z_{self.t}", dist.Normal(state["z"].matmul(self.A), self.B).to_event(1))
        y = pyro.sample(f"y_{self.t}", dist.Normal(state["z"][..., 0], self.sigma_y), obs=y)
        return state["z"], y


class Guide:
    def __init__(self, model):
        self.model = model

    def init(self, state, initial):
        self.t = 0
        pyro.sample("z_init", dist.Delta(initial, event_dim=1))

    def step(self, state, y=None):
        self.t += 1
        pyro.sample(f"z_{self.t}", dist.Normal(state["z"].matmul(A), B).to_event(1))


def kalman():
    """Log-evidence and the mean of the last state."""
    mean, covariance, log_evidence = INITIAL.double(), torch.zeros(2, 2).double(), 0.0
    transition, noise = A.double(), torch.diag(B.double() ** 2)
    for y in OBSERVATIONS.double():
        mean, covariance = mean @ transition, transition.T @ covariance @ transition + noise
        variance = covariance[0, 0] + NOISE**2
        log_evidence += dist.Normal(mean[0], variance.sqrt()).log_prob(y).item()
        gain = covariance[:, 0] / variance
        mean, covariance = mean + gain * (y - mean[0]), covariance - torch.outer(gain, covariance[0])
    return log_evidence, mean


def test_evidence_and_filtered_mean():
    """Null: E[Z-hat] = Z and E[Z-hat f-hat] = Z E[f]. 4 standard errors of 1,000 runs, three comparisons: 2e-4."""
    pyro.set_rng_seed(0)
    posterior = SMC(StateSpace(Harmonic()), 20, num_runs=1000, ess_threshold=0.7, progress=False).run(
        OBSERVATIONS, INITIAL
    )
    log_evidence, mean = kalman()
    assert posterior.stats.resampled.any()
    ratio = (posterior.log_evidence - log_evidence).exp()
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / 1000**0.5
    last = posterior.returns["z"].double()
    estimates = (posterior.log_weights.exp().unsqueeze(-1) * (last - mean)).sum(1) * ratio.unsqueeze(-1)
    assert (estimates.mean(0).abs() < 4 * estimates.std(0) / 1000**0.5).all()


def test_the_same_object_runs_under_pyros_filter():
    """Null: both are filters of one model, 2,000 particles each; their means differ by less than 0.1 (5 sigma)."""
    pyro.set_rng_seed(1)
    model = Harmonic()
    smc = SMCFilter(model, Guide(model), num_particles=2000, max_plate_nesting=0)
    smc.init(INITIAL)
    for y in OBSERVATIONS:
        smc.step(y)
    theirs = smc.get_empirical()["z"].mean
    posterior = SMC(StateSpace(model), 2000, progress=False).run(OBSERVATIONS, initial=INITIAL)
    ours = (posterior.log_weights.exp().unsqueeze(-1) * posterior.returns["z"]).sum(1)[0]
    assert (theirs - ours).abs().max() < 0.1


def test_steps_of_several_arguments():
    class Regression:
        def init(self, state):
            self.t, state["w"] = 0, pyro.sample("w", dist.Normal(0.0, 1.0))

        def step(self, state, x, y):
            self.t += 1
            pyro.sample(f"y_{self.t}", dist.Normal(state["w"] * x, 1.0), obs=y)

    data = [(1.0, torch.tensor(0.5)), (2.0, torch.tensor(1.5))]
    posterior = SMC(StateSpace(Regression()), 10, progress=False).run(data)
    w = posterior.samples["w"]
    expected = sum(dist.Normal(w * x, 1.0).log_prob(y) for x, y in data)
    torch.testing.assert_close(posterior.log_likelihood, expected.double())


def test_what_is_no_model():
    with pytest.raises(OptionError, match="has no method 'step'"):
        StateSpace(type("Half", (), {"init": lambda self, state: None})())
