"""A study whose models take no time: a language model of ten tokens, a reward that knows a little."""

import pytest

from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward
from pyro_llm.study import parse_config, work

DIGITS = "0123456789"


def digit_lm():
    """Writes `answer: ` and a digit, low ones more often."""
    first = [0.0] * 10 + [1.0, 0.0]
    digit = [(10 - d) / 55 for d in range(10)] + [0.0, 0.0]
    end = [0.0] * 11 + [1.0]
    return TableLM(lambda tokens: [first, digit, end][len(tokens)], [*DIGITS, "answer: ", "."], eos_token_id=11)


def likes_high_digits():
    return FunctionReward(lambda text: (1 + int(text[-1])) / 11 if text[-1:].isdigit() else 0.5)


def use_small_models(monkeypatch):
    """Have studies load these models, whatever their configuration names."""
    lm, reward = digit_lm(), likes_high_digits()
    monkeypatch.setattr(work, "_lm", lambda *spec: lm)
    monkeypatch.setattr(work, "_reward", lambda *spec: reward)


@pytest.fixture
def small_models(monkeypatch):
    use_small_models(monkeypatch)


def raw_config(**changes):
    return {
        "name": "small",
        "problems": {"set": "abacus", "number": 3},
        "program": {"stop": None, "max_tokens": 3, "max_steps": 1},
        "algorithms": {"PF": {"algorithm": "SMC"}, "IS": {"algorithm": "Importance"}},
        "budgets": {"generations": [1, 4]},
        **changes,
    }


def make_config(**changes):
    return parse_config(raw_config(**changes))


@pytest.fixture
def raw():
    """A function: the small study's configuration before it is checked, with changes."""
    return raw_config


@pytest.fixture
def config():
    """A function: the small study's configuration, with changes."""
    return make_config
