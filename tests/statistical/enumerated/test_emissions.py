"""The target of each emission, on two-step and early-finish toys, by enumerating every branch of SMC.

Resampling after the last step, weights used twice, a reward frozen at a text's first or last score, or a finished text
that is weighed again would each show as another measure than the target's.
"""

import math

import pyro
import pytest
import torch

from pyro_llm.distributions import LLM, accept
from pyro_llm.handlers.loop import loop
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

EMISSIONS = pytest.mark.parametrize("emission", ["bernoulli", "potential", "odds"])
THRESHOLDS = pytest.mark.parametrize("ess_threshold", [0, 0.7, 1.0])
EOS = 2
REWARDS = {"a": 0.9, "b": 0.3, "aa": 0.2, "ab": 0.7, "ba": 0.8, "bb": 0.4}


def reward_of(text):
    return REWARDS[text]


def factor(emission, now, before):
    return {"bernoulli": now, "potential": now / before, "odds": now / (1 - now)}[emission]


def two_steps(tokens):
    """Two tokens, never an end."""
    return [0.25, 0.75, 0.0] if not tokens or tokens[-1] == 0 else [0.6, 0.4, 0.0]


def early_end(tokens):
    """Texts of one or two letters, then EOS: "b" ends at once."""
    return [0.5, 0.5, 0.0] if not tokens else [0.0, 0.0, 1.0] if tokens[-1] == 1 or len(tokens) > 1 else [0.3, 0.7, 0.0]


def target(lm, emission, max_tokens, beta=1.0):
    """p(x) times the factors of its prefixes, one for each step of one letter; EOS comes with the last of them."""
    measure = {}
    for tokens, log_prob in lm.enumerate(max_tokens):
        text, total = lm.decode(tokens), 1.0
        for length in range(1, len(text) + 1):
            total *= factor(emission, REWARDS[text[:length]], REWARDS[text[: length - 1]] if length > 1 else 1.0)
        measure[tokens] = math.exp(log_prob) * total**beta
    return measure


def table_lm(conditional):
    return TableLM(conditional, ["a", "b", "."], eos_token_id=EOS)


@EMISSIONS
@THRESHOLDS
@pytest.mark.parametrize(("num_particles", "beta"), [(1, 1.0), (2, 1.0), (2, 0.5)])
def test_two_steps(emission, ess_threshold, beta, num_particles, assert_exact):
    lm, reward = table_lm(two_steps), FunctionReward(reward_of)
    model = ReasoningSSM(lm, reward, max_steps=2, stop=None, max_tokens=1, emission=emission, inverse_temperature=beta)
    assert_exact(lambda: model(""), target(lm, emission, 2, beta), num_particles, ess_threshold)


def early_program(lm, reward, emission, resumable=False):
    """Texts end after one letter or two; a third step finds nothing to write."""

    def step(t, state):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
        last = state.tokens[..., -1:] == 1 if t == 0 else torch.ones_like(state.tokens[..., -1:], dtype=torch.bool)
        state = state.finish(last.any(-1))
        accept(f"accept_{t}", reward, state, emission)
        return state

    def plain():
        state = lm.prompt("")
        for t in range(3):
            state = step(t, state)
        return state

    def looping():
        state = {"text": lm.prompt("")}
        for t in loop("steps", 3, state):
            state["text"] = step(t, state["text"])
        return state["text"]

    return looping if resumable else plain


WAYS = [
    (emission, threshold, "vectorized", False)
    for emission in ("bernoulli", "potential", "odds")
    for threshold in (0, 0.7, 1.0)
]
WAYS += [("potential", 1.0, "vectorized", True), ("potential", 0.7, "scalar", False), ("odds", 1.0, "scalar", False)]


@pytest.mark.parametrize(("emission", "ess_threshold", "particles", "resumable"), WAYS)
def test_early_finishers(emission, ess_threshold, particles, resumable, assert_exact):
    lm, reward = table_lm(early_end), FunctionReward(reward_of)
    exact = {tokens[:-1]: mass for tokens, mass in target(lm, emission, 3).items()}
    program = early_program(lm, reward, emission, resumable)
    assert_exact(program, exact, 2, ess_threshold, particles)


def test_the_potential_is_the_reward_of_the_whole_text():
    """p(x) r(x), written down without the prefixes, is what the telescoped factors of `target` are."""
    for conditional, tokens in ((two_steps, 2), (early_end, 3)):
        lm = table_lm(conditional)
        direct = {row: math.exp(log_prob) * REWARDS[lm.decode(row)] for row, log_prob in lm.enumerate(tokens)}
        assert target(lm, "potential", tokens) == pytest.approx(direct, rel=1e-12)


@EMISSIONS
def test_the_reward_of_an_outcome_is_a_potential_of_its_own(emission, assert_exact):
    """Another reward after the loop has no earlier judgement, whatever the first one judged."""
    lm, process, outcome = (
        table_lm(two_steps),
        FunctionReward(reward_of),
        FunctionReward(lambda text: REWARDS[text] / 2),
    )
    model = ReasoningSSM(lm, process, max_steps=2, stop=None, max_tokens=1, emission=emission)

    def program():
        state = model("")
        accept("outcome", outcome, state, emission)
        return state

    exact = {
        row: mass * factor(emission, REWARDS[lm.decode(row)] / 2, 1.0) for row, mass in target(lm, emission, 2).items()
    }
    assert_exact(program, exact, 2, 1.0)
