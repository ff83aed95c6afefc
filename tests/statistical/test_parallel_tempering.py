"""Parallel tempering: the swap by enumeration, the ladder, and every rung against enumerated posteriors."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.distributions import LLM, accept
from pyro_llm.infer import ParallelTempering
from pyro_llm.lm import TableLM
from pyro_llm.ops.replica_exchange import exchange
from pyro_llm.rewards import FunctionReward

ROWS = {(): [0.5, 0.3, 0.2], (0,): [0.3, 0.3, 0.4], (1,): [0.2, 0.2, 0.6]}


def texts():
    """Texts of up to three tokens, each judged: the model, its texts, their prior and likelihood."""
    lm = TableLM(lambda tokens: ROWS[tokens[-1:]], ["a", "b", "."], eos_token_id=2)

    def probability(text):
        return 0.05 + 0.9 * ((2 * text.count("a") + 3 * text.count("b") + len(text)) % 5) / 5

    reward = FunctionReward(probability)

    def model():
        state = lm.prompt("")
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            accept(f"accept_{t}", reward, state)
            if state.finished.all():
                break
        return state

    prior, likelihood, paths = [], [], []
    for tokens, log_prob in lm.enumerate(3):
        prefixes = [lm.decode(tokens[:end]) for end in range(1, len(tokens) + 1)]
        paths.append(tokens)
        prior.append(math.exp(log_prob))
        likelihood.append(math.prod(map(probability, prefixes)))
    return model, paths, torch.tensor(prior).double(), torch.tensor(likelihood).double()


@pytest.mark.parametrize("parity", [0, 1])
def test_detailed_balance_of_the_swap(parity):
    """pi(x) P(x -> y) = pi(y) P(y -> x) to 1e-12, over all states of four rungs, asymmetric and unevenly spaced."""
    prior = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    likelihood = torch.tensor([0.9, 0.05, 0.4], dtype=torch.float64)
    powers = torch.tensor([1.0, 0.7, 0.2, 0.0], dtype=torch.float64)
    tempered = prior * likelihood ** powers[:, None]
    tempered = tempered / tempered.sum(-1, keepdim=True)
    states = list(itertools.product(range(3), repeat=4))
    joint = torch.tensor(
        [math.prod(tempered[k, x].item() for k, x in enumerate(state)) for state in states], dtype=torch.float64
    )
    moves = torch.zeros(len(states), len(states), dtype=torch.float64)
    pairs = list(range(parity, 3, 2))
    for start, state in enumerate(states):
        log_likelihood = likelihood[list(state)].log()[None]
        probability = exchange(log_likelihood, powers, parity, torch.zeros(1, 3).double()).probability[0]
        for accepts in itertools.product([False, True], repeat=len(pairs)):
            uniforms = torch.full((1, 3), 0.5, dtype=torch.float64)
            chance = 1.0
            for pair, accepted in zip(pairs, accepts, strict=True):
                p = probability[pair].item()
                chance *= p if accepted else 1 - p
                uniforms[0, pair] = p / 2 if accepted else (1 + p) / 2
            if chance == 0:
                continue
            swaps = exchange(log_likelihood, powers, parity, uniforms)
            assert swaps.accepted[0, pairs].tolist() == list(accepts)
            assert swaps.tried.nonzero().flatten().tolist() == pairs
            moves[start, states.index(tuple(state[rung] for rung in swaps.sources[0].tolist()))] += chance
    flow = joint[:, None] * moves
    assert (flow - flow.T).abs().max() < 1e-12
    assert (moves.sum(1) - 1).abs().max() < 1e-12
    assert ((moves > 0) & (moves < 1)).any()


@pytest.mark.parametrize("ancestor_sampling", [False, True])
def test_every_rung_has_its_posterior(ancestor_sampling, assert_mean):
    """Null: at each rung, E[log L] is that of p(x) L(x)^beta; at the first, texts have their probabilities.

    300 ladders, 20 draws after 10. 3 + 15 comparisons by 4 standard errors: false alarms 1.1e-3 a case.
    """
    model, paths, prior, likelihood = texts()
    powers = torch.tensor([1.0, 0.4, 0.0], dtype=torch.float64)
    posterior = ParallelTempering(
        model,
        2,
        20,
        inverse_temperatures=powers.tolist(),
        num_chains=300,
        warmup=10,
        ancestor_sampling=ancestor_sampling,
        ess_threshold=1.0,
        progress=False,
    ).run()
    tempering = posterior.chains.tempering
    tempered = prior * likelihood ** powers[:, None]
    tempered = tempered / tempered.sum(-1, keepdim=True)
    rungs = torch.from_numpy(tempering.log_likelihood)
    assert rungs.shape == (300, 3, 20)
    assert_mean(rungs.mean(-1), (tempered * likelihood.log()).sum(-1))
    written = torch.nn.functional.pad(posterior.returns.tokens, (0, 3 - posterior.returns.tokens.shape[-1]), value=-1)
    rows = torch.tensor([[*path, *[-1] * (3 - len(path))] for path in paths])
    is_path = (written[:, :, None] == rows).all(-1).double()
    assert_mean(is_path.mean(1), tempered[0])
    torch.testing.assert_close(rungs[:, 0], posterior.log_likelihood)
    assert ((tempering.swap_rates > 0.05) & (tempering.swap_rates < 0.999)).all()
    assert tempering.round_trips.sum() > 300


def test_swaps_join_modes_that_particle_gibbs_does_not(assert_mean):
    """Null: P(x > 0 | y) = 1/2, and chains cross between the modes. 100 chains; false alarms 6e-5."""

    def two_modes():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        y = pyro.sample("z", dist.Normal(x, 0.05))
        pyro.factor("far", dist.Normal(y.abs(), 0.1).log_prob(torch.tensor(1.5)))
        return x > 0

    options = {"inverse_temperatures": [1.0, 0.3, 0.1, 0.02, 0.0], "num_chains": 100, "progress": False}
    posterior = ParallelTempering(two_modes, 4, 60, **options).run()
    positive = posterior.returns.double()
    assert_mean(positive.mean(1), 0.5)
    assert (positive[:, 1:] != positive[:, :-1]).any(1).double().mean() > 0.5


def test_a_ladder_learns_its_target_and_is_then_fixed():
    """After 300 iterations of warm-up with 20 chains, every pair is swapped at the target rate within 0.1."""

    def normal():
        x = pyro.sample("x", dist.Normal(torch.zeros(20), 1.0).to_event(1))
        pyro.factor("y", -50 * (x**2).sum(-1))

    options = {"num_rungs": 4, "num_chains": 20, "warmup": 300, "target_swap_rate": 0.4, "progress": False}
    posterior = ParallelTempering(normal, 30, 100, **options).run()
    tempering = posterior.chains.tempering
    assert tempering.inverse_temperatures[0] == 1
    assert (tempering.inverse_temperatures[1:] < tempering.inverse_temperatures[:-1]).all()
    assert (abs(tempering.swap_rates - 0.4) < 0.1).all()
    assert posterior.settings["inverse_temperatures"] == tempering.inverse_temperatures.tolist()
