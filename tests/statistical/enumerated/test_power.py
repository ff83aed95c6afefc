"""Power targets, by enumerating every branch of SMC."""

import math

import pytest

from pyro_llm.lm import TableLM
from pyro_llm.models import PowerText

ROWS = {"": [0.5, 0.3, 0.2], "a": [0.7, 0.0, 0.3], "b": [0.1, 0.3, 0.6]}


def table_lm():
    return TableLM(lambda tokens: ROWS["ab"[tokens[-1]] if tokens else ""], ["a", "b", "."], eos_token_id=2)


@pytest.mark.parametrize("alpha", [3.0, 0.5])
@pytest.mark.parametrize("proposal", ["model", "tempered"])
@pytest.mark.parametrize(("num_particles", "ess_threshold"), [(1, 1.0), (2, 0), (2, 0.8), (2, 1.0)])
def test_tokens(proposal, alpha, num_particles, ess_threshold, assert_exact):
    lm = table_lm()
    model = PowerText(lm, alpha, max_steps=2, stop=None, max_tokens=1, proposal=proposal)
    target = {tokens: math.exp(alpha * log_prob) for tokens, log_prob in lm.enumerate(2)}
    assert_exact(lambda: model(""), target, num_particles, ess_threshold)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_steps_of_several_tokens(particles, assert_exact):
    """Steps of one or two tokens, which "b" or EOS ends."""
    lm = table_lm()
    model = PowerText(lm, 2.0, max_steps=2, stop="b", max_tokens=2)
    law, target = dict(lm.enumerate(4)), {}
    for tokens in law:
        for end in range(1, 5):
            row, steps, start = tokens[:end], 0, 0
            for place, token in enumerate(row, start=1):
                if token in (1, 2) or place - start == 2:
                    steps, start = steps + 1, place
            if start == len(row) and (steps == 2 or row[-1] == 2):
                target[row] = math.exp(2 * sum(lm.log_probs(row[:i])[row[i]].item() for i in range(len(row))))
                break
    if particles == "scalar":  # a single particle, for the time it takes
        assert_exact(lambda: model(""), target, 1, 1.0, particles)
    else:
        assert_exact(lambda: model(""), target, 2, 0, particles)


def test_temperature_alone_is_another_law():
    """Sampling at temperature 1 / alpha forgets what comes after: its law is not the power, nor near it."""
    lm, alpha = table_lm(), 3.0
    power = {tokens: math.exp(alpha * log_prob) for tokens, log_prob in lm.enumerate(2)}
    total = sum(power.values())
    short_sighted = {}
    for tokens in power:
        terms = [alpha * lm.log_probs(tokens[:place]) for place in range(len(tokens))]
        short_sighted[tokens] = math.exp(
            sum((term - term.logsumexp(-1))[token].item() for term, token in zip(terms, tokens, strict=True))
        )
    assert sum(short_sighted.values()) == pytest.approx(1.0)
    assert sum(abs(short_sighted[tokens] - power[tokens] / total) for tokens in power) / 2 > 0.04
