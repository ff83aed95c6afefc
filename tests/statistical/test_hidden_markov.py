"""SMC on a discrete hidden Markov model, held against the forward-backward algorithm."""

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch

from pyro_llm.infer import SMC

INITIAL = torch.tensor([0.6, 0.3, 0.1])
TRANSITION = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.25, 0.25, 0.5]])
EMISSION = torch.tensor([[0.8, 0.2], [0.3, 0.7], [0.05, 0.95]])
OBSERVATIONS = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])


def forward_backward():
    """Evidence, and the posterior probability of each state at each time, `[T, 3]`."""
    likelihood = torch.stack([EMISSION[:, int(y)] for y in OBSERVATIONS]).double()
    transition = TRANSITION.double()
    forward = [INITIAL.double() * likelihood[0]]
    for factor in likelihood[1:]:
        forward.append(forward[-1] @ transition * factor)
    backward = [torch.ones(3, dtype=torch.float64)]
    for factor in likelihood.flip(0)[:-1]:
        backward.append(transition @ (factor * backward[-1]))
    evidence = forward[-1].sum()
    return evidence, torch.stack(forward) * torch.stack(backward[::-1]) / evidence


EVIDENCE, SMOOTHED = forward_backward()


def hidden_markov():
    state = None
    for t, y in enumerate(OBSERVATIONS):
        state = pyro.sample(f"state_{t}", dist.Categorical(INITIAL if t == 0 else TRANSITION[state]))
        pyro.sample(f"y_{t}", dist.Bernoulli(EMISSION[state, 1]), obs=y)


def branching():
    """The same law by a program that branches in Python."""
    state = None
    for t, y in enumerate(OBSERVATIONS):
        law = INITIAL if state is None else TRANSITION[int(state)]
        state = pyro.sample(f"state_{t}", dist.Categorical(law))
        certain = 0.95 if state == 2 else (0.7 if state == 1 else 0.2)
        pyro.sample(f"y_{t}", dist.Bernoulli(certain), obs=y)


@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1.0])
@pytest.mark.parametrize("num_particles", [1, 2, 5])
def test_evidence_and_smoothed_states(num_particles, ess_threshold, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z, and the states smoothed at every time, first ones too. 2,000 runs.

    16 comparisons by 4 standard errors: false alarms 1e-3 a case at most.
    """
    posterior = SMC(hidden_markov, num_particles, num_runs=2000, ess_threshold=ess_threshold, progress=False).run()
    assert_mean(posterior.log_evidence.exp(), EVIDENCE)
    states = torch.stack([posterior.samples[f"state_{t}"] for t in range(5)], -1)
    indicators = torch.nn.functional.one_hot(states, 3)
    assert_posterior_mean(posterior, indicators, SMOOTHED)


def test_scalar_particles(assert_mean, assert_posterior_mean):
    """Null: as above, 100 runs of 3 particles; false alarms 1e-3."""
    posterior = SMC(branching, 3, num_runs=100, ess_threshold=0.7, particles="scalar", progress=False).run()
    assert_mean(posterior.log_evidence.exp(), EVIDENCE)
    states = torch.stack([posterior.samples[f"state_{t}"] for t in range(5)], -1)
    assert_posterior_mean(posterior, torch.nn.functional.one_hot(states, 3), SMOOTHED)


def test_observations_by_conditioning(assert_mean):
    """Null: `poutine.condition` gives the same evidence. 2,000 runs, false alarms 6e-5."""

    def unobserved():
        state = None
        for t in range(5):
            state = pyro.sample(f"state_{t}", dist.Categorical(INITIAL if t == 0 else TRANSITION[state]))
            pyro.sample(f"y_{t}", dist.Bernoulli(EMISSION[state, 1]))

    model = poutine.condition(unobserved, {f"y_{t}": y for t, y in enumerate(OBSERVATIONS)})
    posterior = SMC(model, 4, num_runs=2000, ess_threshold=1.0, progress=False).run()
    assert_mean(posterior.log_evidence.exp(), EVIDENCE)


def test_plates_inside_the_program(assert_mean):
    """Null: with two independent series in a plate, E[Z-hat] = Z^2. 2,000 runs, false alarms 6e-5."""

    def two_series():
        state = None
        with pyro.plate("series", 2):
            for t, y in enumerate(OBSERVATIONS):
                state = pyro.sample(f"state_{t}", dist.Categorical(INITIAL if t == 0 else TRANSITION[state]))
                pyro.sample(f"y_{t}", dist.Bernoulli(EMISSION[state, 1]), obs=y)

    posterior = SMC(two_series, 5, num_runs=2000, max_plate_nesting=1, ess_threshold=1.0, progress=False).run()
    assert_mean(posterior.log_evidence.exp(), EVIDENCE**2)
