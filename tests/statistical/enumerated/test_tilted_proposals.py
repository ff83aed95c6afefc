"""A tilted next token as the proposal of the model's own, by enumerating every branch of SMC."""

import itertools

import pyro
import pytest

import pyro_llm
from pyro_llm.distributions import NextToken, PoweredNextToken
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

ROWS = {(): [0.5, 0.3, 0.2], (0,): [0.2, 0.7, 0.1], (1,): [0.6, 0.3, 0.1]}
REWARD = FunctionReward(lambda text: {"": 0.5, "a": 0.3, "b": 0.9, "aa": 0.2, "ab": 0.8, "ba": 0.6, "bb": 0.1}[text])


@pytest.fixture
def lm():
    return TableLM(lambda tokens: ROWS[tokens[-1:]], ["a", "b", "."], eos_token_id=2)


def target(lm):
    """p(x) times the reward of every prefix that was judged, by hand."""
    found = {}
    for first, second in itertools.product(range(3), range(3)):
        text = (first,) if first == 2 else (first, second)
        mass, written = 1.0, ""
        for place, token in enumerate(text):
            mass *= ROWS[text[:place][-1:]][token]
            written += "ab"[token] if token < 2 else ""
            mass *= REWARD.fn(written)
        found[text] = mass
    return found


@pytest.mark.parametrize(("particles", "ess_threshold"), [("vectorized", 0.8), ("scalar", 1.0)])
def test_the_posterior_is_that_of_the_models_own_law(particles, ess_threshold, lm, assert_exact):
    def program():
        state = lm.prompt("")
        for t in range(2):
            tilted = PoweredNextToken(lm, state, 2.0)
            token = pyro.sample(f"token_{t}", NextToken(lm, state), infer={"proposal": tilted})
            state = state.append_token(token)
            pyro_llm.accept(f"accept_{t}", REWARD, state)
        return state

    assert_exact(program, target(lm), 2, ess_threshold, particles)
