"""Particle Gibbs against closed forms: smoothing, texts that can be enumerated, and a joint-distribution test."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, accept
from pyro_llm.handlers.reference import Reference
from pyro_llm.infer import ParticleGibbs
from pyro_llm.infer.conditional_smc import ConditionalSMC
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

ANCESTOR_SAMPLING = pytest.mark.parametrize("ancestor_sampling", [False, True])

A, STATE_NOISE, OBSERVATION_NOISE = 0.9, 0.5, 0.7
OBSERVATIONS = torch.tensor([0.3, 1.1, 0.8, 2.1, 2.4, 1.9])


def kalman_smoother(observations):
    """Mean and variance of each state, given all observations (Rauch, Tung & Striebel)."""
    filtered, predicted = [], []
    mean, variance = 0.0, 1.0
    for t, y in enumerate(observations.double().tolist()):
        if t:
            mean, variance = A * mean, A**2 * variance + STATE_NOISE**2
        predicted.append((mean, variance))
        gain = variance / (variance + OBSERVATION_NOISE**2)
        mean, variance = mean + gain * (y - mean), (1 - gain) * variance
        filtered.append((mean, variance))
    smoothed = [filtered[-1]]
    for (mean, variance), (next_mean, next_variance) in zip(filtered[-2::-1], predicted[:0:-1], strict=True):
        gain = variance * A / next_variance
        later_mean, later_variance = smoothed[0]
        mean, variance = mean + gain * (later_mean - next_mean), variance + gain**2 * (later_variance - next_variance)
        smoothed.insert(0, (mean, variance))
    return torch.tensor(smoothed, dtype=torch.float64).T


def linear_gaussian(observations):
    x = None
    for t, y in enumerate(observations):
        x = pyro.sample(f"x_{t}", dist.Normal(A * x, STATE_NOISE) if t else dist.Normal(0.0, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, OBSERVATION_NOISE), obs=y)


@ANCESTOR_SAMPLING
@pytest.mark.parametrize("ess_threshold", [0.5, 1.0])
def test_smoothing_against_the_kalman_smoother(ess_threshold, ancestor_sampling, assert_mean):
    """Null: draws have the smoothed means and variances. 400 chains, 40 draws after 20 of warm-up.

    Chains are independent, so the averages of chains give the error. 12 comparisons by 4 standard errors: false alarms
    8e-4 a case at most.
    """
    posterior = ParticleGibbs(
        linear_gaussian,
        8,
        40,
        num_chains=400,
        warmup=20,
        ancestor_sampling=ancestor_sampling,
        ess_threshold=ess_threshold,
        progress=False,
    ).run(OBSERVATIONS)
    mean, variance = kalman_smoother(OBSERVATIONS)
    states = torch.stack([posterior.samples[f"x_{t}"] for t in range(6)], -1).double()
    assert_mean(states.mean(1), mean)
    assert_mean(((states - mean) ** 2).mean(1), variance)


@ANCESTOR_SAMPLING
def test_schedules_and_whole_populations(ancestor_sampling, assert_mean):
    """Null: the smoothed means and variances, from weighted populations of a schedule that goes up and down.

    400 chains; the sweeps after 20 of warm-up have 3, 6 and then 2 particles. 12 comparisons by 4 standard errors over
    chains: false alarms 8e-4 a case. A reference that is not taken over from the wider sweep, or weights that are not
    a sweep's own, fail.
    """
    posterior = ParticleGibbs(
        linear_gaussian,
        [4] * 20 + [3, 6, 2],
        12,
        num_chains=400,
        warmup=20,
        ancestor_sampling=ancestor_sampling,
        keep="population",
        progress=False,
    ).run(OBSERVATIONS)
    assert posterior.num_particles == 3 + 6 + 10 * 2
    mean, variance = kalman_smoother(OBSERVATIONS)
    states = torch.stack([posterior.samples[f"x_{t}"] for t in range(6)], -1).double()
    weights = posterior.log_weights.exp()[..., None]
    torch.testing.assert_close(weights.sum(1), torch.ones(400, 1, dtype=torch.float64))
    assert_mean((weights * states).sum(1), mean)
    assert_mean((weights * (states - mean) ** 2).sum(1), variance)


INITIAL = torch.tensor([0.6, 0.3, 0.1])
TRANSITION = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.25, 0.25, 0.5]])
EMISSION = torch.tensor([0.2, 0.7, 0.95])
SIGNS = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])


@ANCESTOR_SAMPLING
def test_smoothing_against_forward_backward(ancestor_sampling, assert_mean):
    """Null: the states have their smoothed probabilities. 400 chains, 30 draws after 10. False alarms 1e-3."""

    def hidden_markov():
        state = None
        for t, y in enumerate(SIGNS):
            state = pyro.sample(f"state_{t}", dist.Categorical(INITIAL if t == 0 else TRANSITION[state]))
            pyro.sample(f"y_{t}", dist.Bernoulli(EMISSION[state]), obs=y)

    likelihood = torch.stack([EMISSION if y else 1 - EMISSION for y in SIGNS]).double()
    forward, backward = [INITIAL.double() * likelihood[0]], [torch.ones(3, dtype=torch.float64)]
    for t in range(1, 5):
        forward.append(forward[-1] @ TRANSITION.double() * likelihood[t])
        backward.insert(0, TRANSITION.double() @ (likelihood[5 - t] * backward[0]))
    smoothed = torch.stack(forward) * torch.stack(backward)
    smoothed = smoothed / smoothed.sum(-1, keepdim=True)
    posterior = ParticleGibbs(
        hidden_markov, 4, 30, num_chains=400, warmup=10, ancestor_sampling=ancestor_sampling, progress=False
    ).run()
    states = torch.stack([posterior.samples[f"state_{t}"] for t in range(5)], -1)
    assert_mean(torch.nn.functional.one_hot(states, 3).double().mean(1), smoothed)


def short_or_long(tokens):
    """Some texts end at step 1, the others go on, for five steps at most, and end at any."""
    if not tokens:
        return [0.4, 0.6, 0.0]
    return [0.0, 0.8, 0.2] if tokens[-1] == 1 and len(tokens) < 5 else [0.0, 0.0, 1.0]


@ANCESTOR_SAMPLING
def test_texts_that_end_early(ancestor_sampling, assert_mean):
    """Null: the lengths of texts have their enumerated probabilities. 300 chains of two particles, 25 draws after 10.

    False alarms 4e-4 a case.
    """
    lm = TableLM(short_or_long, ["s", "l", "."], eos_token_id=2)
    reward = FunctionReward(lambda text: 0.5 if text == "s" else 0.8)
    last = FunctionReward(lambda text: 0.4 if text == "s" else 0.7)

    def program():
        state = lm.prompt("")
        for t in range(5):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            state = state.finish((state.tokens == 0).any(-1))
            accept(f"accept_{t}", reward, state)
            if state.finished.all():
                break
        accept("outcome", last, state)
        return state

    exact = torch.zeros(6, dtype=torch.float64)
    exact[1] = 0.4 * 0.5 * 0.4
    for length in range(2, 6):
        exact[length] = 0.6 * 0.8 ** (length - 2) * (0.2 if length < 5 else 1.0) * 0.8**length * 0.7
    exact = exact / exact.sum()
    posterior = ParticleGibbs(
        program,
        2,
        25,
        num_chains=300,
        warmup=10,
        ancestor_sampling=ancestor_sampling,
        ess_threshold=1.0,
        progress=False,
    ).run()
    lengths = torch.nn.functional.one_hot(posterior.returns.lengths, 6).double()
    assert_mean(lengths.mean(1), exact)


@ANCESTOR_SAMPLING
def test_joint_distribution(ancestor_sampling, assert_mean):
    """Geweke's test in one step: (theta, x, y) drawn from the joint, then (theta, x) moved by the kernel given y.

    Null: the joint is as before, here in a model with a continuous parameter. 6,000 joint draws, three sweeps of 3
    particles; ten moments by 4 standard errors: false alarms 6e-4. The parameter does move: its correlation with
    its own beginning is less than 0.95.
    """
    runs, particles = 6000, 3

    def model(y=None, size=1):
        theta = pyro.sample("theta", dist.Normal(0.5, 1.0))
        x, simulated = torch.zeros(()), []
        for t in range(3):
            x = pyro.sample(f"x_{t}", dist.Normal(x + theta, 0.8))
            observed = None if y is None else y[:, t].repeat_interleave(size)
            simulated.append(pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=observed))
        return simulated

    with pyro.plate("joint", runs):
        trace = pyro.poutine.trace(model).get_trace()
    names = ["theta", "x_0", "x_1", "x_2"]
    nodes = trace.nodes
    y = torch.stack([nodes[f"y_{t}"]["value"] for t in range(3)], -1)
    reference = Reference(
        values={name: nodes[name]["value"] for name in names},
        log_probs={name: nodes[name]["fn"].log_prob(nodes[name]["value"]).double() for name in names},
        log_factors={f"y_{t}": nodes[f"y_{t}"]["fn"].log_prob(y[:, t]).double() for t in range(3)},
    )
    before = reference.values["theta"]
    kernel = ConditionalSMC(model, runs, particles, ess_threshold=0.9, ancestor_sampling=ancestor_sampling)
    with torch.no_grad():
        for _ in range(3):
            sweep = kernel.sweep((y, particles), {}, reference)
            reference = sweep.reference
    theta, x, last = (reference.values[name].double() for name in ("theta", "x_0", "x_2"))
    moments = [theta, theta**2, x, x**2, x * theta, last, last * theta, theta * y[:, 2], x * y[:, 0], last * y[:, 2]]
    # theta ~ N(0.5, 1), x_0 = theta + 0.8 e_0, x_2 = 3 theta + 0.8 (e_0 + e_1 + e_2), y = x + e'.
    square = 1.25
    expected = [0.5, square, 0.5, square + 0.64, square, 1.5, 3 * square, 3 * square, square + 0.64, 9 * square + 1.92]
    assert_mean(torch.stack(moments, -1), torch.tensor(expected, dtype=torch.float64))
    moved = torch.corrcoef(torch.stack([theta, before.double()]))[0, 1]
    unmoved = (theta == before).double().mean()
    assert moved < 0.95 and unmoved < 0.9
