"""Aggregation of step scores: the formulas, in the limit too, and what target each makes under `accept`."""

import itertools
import math

import pyro
import pytest
import torch

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.errors import OptionError
from pyro_llm.infer import Importance
from pyro_llm.lm import TableLM
from pyro_llm.rewards import DEFAULT_AGGREGATION, aggregate, load_reward

FORMULAS = {"product": math.prod, "min": min, "last": lambda r: r[-1], "mean": lambda r: sum(r) / len(r)}


@pytest.mark.parametrize("name", FORMULAS)
def test_formulas(name):
    for probabilities in ([0.9, 0.2, 0.7], [0.5], [1e-9, 0.999], [0.3, 0.3, 0.3, 0.3]):
        expected = FORMULAS[name](probabilities)
        log_odds = aggregate(torch.tensor(probabilities, dtype=torch.float64).logit(), name)
        assert log_odds.sigmoid().item() == pytest.approx(expected, rel=1e-12)
    batch = torch.randn(3, 4, 5)
    assert aggregate(batch, name).shape == (3, 4)
    assert aggregate(batch, name)[1, 2].item() == pytest.approx(aggregate(batch[1, 2], name).item())


@pytest.mark.parametrize("size", [25.0, 29.9999, 30.0001, 60.0, 800.0])
def test_log_odds_of_any_size_are_kept(size):
    # 1 - (1 - e)(1 - e') is e + e' to first order, e = exp(-size)
    steps = torch.tensor([size, size + 1], dtype=torch.float64)
    assert aggregate(steps, "product").item() == pytest.approx(size - math.log1p(math.exp(-1)), rel=1e-9)
    assert aggregate(-steps, "product").item() == pytest.approx(-2 * size - 1, rel=1e-9)
    assert aggregate(steps, "mean").item() == pytest.approx(size - math.log((1 + math.exp(-1)) / 2), rel=1e-9)


def test_certainty():
    sure = torch.tensor([[math.inf, math.inf], [math.inf, -math.inf], [math.inf, 0.0]])
    assert aggregate(sure, "product").tolist() == pytest.approx([math.inf, -math.inf, 0.0])
    assert aggregate(sure, "min").tolist() == [math.inf, -math.inf, 0.0]
    assert aggregate(sure, "mean").sigmoid().tolist() == pytest.approx([1.0, 0.5, 0.75])


def test_bad_aggregations():
    with pytest.raises(OptionError, match="no aggregation of step scores 'max'"):
        aggregate(torch.zeros(3), "max")
    with pytest.raises(OptionError, match="no step scores"):
        aggregate(torch.zeros(2, 0), "last")


def test_the_default_is_the_documented_one():
    assert DEFAULT_AGGREGATION == "last" == load_reward("abacus").aggregation


LINES = ["3 + 4 = 7\n", "7 * 2 = 15\n"]
PROBLEM = "Mia has 3 apples and 4 pears, twice."


def two_lines(reward, emission):
    """Two steps, each one of two lines."""
    lm = TableLM(lambda tokens: [0.6, 0.4], LINES, eos_token_id=None)

    def program():
        state = lm.prompt(PROBLEM)
        for step in range(2):
            state = state.append(pyro.sample(f"step_{step}", LLM(lm, state, stop="\n", max_tokens=1)))
            pyro_llm.accept(f"accept_{step}", reward, state, emission=emission)
        return state

    return program


@pytest.mark.parametrize(
    ("aggregation", "emission", "factors"),
    [
        ("last", "bernoulli", lambda r1, r2: r1 * r2),
        ("product", "potential", lambda r1, r2: r1 * r2),  # the same target
        ("product", "bernoulli", lambda r1, r2: r1 * (r1 * r2)),  # the first step counts twice
        ("min", "potential", lambda r1, r2: min(r1, r2)),
        ("mean", "potential", lambda r1, r2: (r1 + r2) / 2),
        ("last", "potential", lambda r1, r2: r2),
    ],
)
def test_targets_under_accept(aggregation, emission, factors):
    single, reward = load_reward("abacus"), load_reward("abacus", aggregation=aggregation)
    lm = TableLM(lambda tokens: [0.6, 0.4], LINES, eos_token_id=None)
    score = {
        rows: single(lm.prompt(PROBLEM).append(torch.tensor(rows))).sigmoid().item()
        for length in (1, 2)
        for rows in itertools.product((0, 1), repeat=length)
    }
    posterior = Importance(two_lines(reward, emission), num_particles=64).run()
    weights = posterior.log_weights[0] - posterior.log_weights[0, 0]
    pairs = [tuple(row) for row in posterior.returns.tokens[0].tolist()]
    assert len(set(pairs)) == 4
    log_factor = torch.tensor([math.log(factors(score[pair[:1]], score[pair])) for pair in pairs])
    torch.testing.assert_close(weights, (log_factor - log_factor[0]).double(), rtol=1e-4, atol=1e-4)
