"""The language model conditioned on a constraint, by enumerating every branch of SMC."""

import math
import re

import pytest

from pyro_llm.infer import Importance
from pyro_llm.lm import TableLM
from pyro_llm.models import ConstrainedText

pytest.importorskip("outlines_core", exc_type=ImportError)

VOCABULARY = ["a", "b", "ab", "."]
ROWS = {"": [0.4, 0.3, 0.2, 0.1], "a": [0.1, 0.5, 0.2, 0.2], "b": [0.3, 0.1, 0.2, 0.4], "ab": [0.7, 0.1, 0.1, 0.1]}


def table_lm():
    return TableLM(lambda tokens: ROWS[VOCABULARY[tokens[-1]] if tokens else ""], VOCABULARY, eos_token_id=3)


def conditioned(lm, pattern, max_tokens):
    """p(x) of the texts that end and match."""
    return {
        tokens: math.exp(log_prob)
        for tokens, log_prob in lm.enumerate(max_tokens)
        if tokens[-1] == 3 and re.fullmatch(pattern, lm.decode(tokens))
    }


@pytest.mark.parametrize("pattern", ["a|ab", "(ab)*", "b?aab|bb", "[ab]?"])
@pytest.mark.parametrize(("num_particles", "ess_threshold"), [(1, 1.0), (2, 0), (2, 0.9), (2, 1.0)])
def test_the_posterior_is_the_model_given_the_constraint(pattern, num_particles, ess_threshold, assert_exact):
    lm = table_lm()
    model = ConstrainedText(lm, pattern, max_tokens=3)
    assert_exact(lambda: model(""), conditioned(lm, pattern, 3), num_particles, ess_threshold)


def test_particle_by_particle(assert_exact):
    lm = table_lm()
    model = ConstrainedText(lm, "a|ab", max_tokens=3)
    assert_exact(lambda: model(""), conditioned(lm, "a|ab", 3), 2, 1.0, "scalar")


def test_temperature_is_part_of_the_law_that_is_conditioned(assert_exact):
    lm = table_lm()
    rows = {text: [p**2 / sum(q**2 for q in row) for p in row] for text, row in ROWS.items()}
    colder = TableLM(lambda tokens: rows[VOCABULARY[tokens[-1]] if tokens else ""], VOCABULARY, eos_token_id=3)
    model = ConstrainedText(lm, "(ab)*", max_tokens=3, temperature=0.5)
    assert_exact(lambda: model(""), conditioned(colder, "(ab)*", 3), 2, 1.0)


def test_greedy_masking_is_another_law(branches):
    """Without its factors the program draws from the masked model; its law is far from the conditioned one."""
    lm, pattern = table_lm(), "a|abab"
    exact = {lm.decode(tokens): 0.0 for tokens in conditioned(lm, pattern, 4)}
    for tokens, probability in conditioned(lm, pattern, 4).items():
        exact[lm.decode(tokens)] += probability
    total = sum(exact.values())
    masked, weighted = dict.fromkeys(exact, 0.0), dict.fromkeys(exact, 0.0)
    smc = Importance(ConstrainedText(lm, pattern, max_tokens=4), 1, progress=False)
    for probability, posterior in branches.walk(lambda: smc.run("")):
        text = posterior.texts[0, 0]
        masked[text] += probability
        weighted[text] += probability * posterior.log_evidence[0].exp().item()
    assert sum(masked.values()) == pytest.approx(1.0, rel=1e-12)
    assert weighted == pytest.approx(exact, rel=1e-12)
    assert abs(masked["a"] - exact["a"] / total) > 0.2


def test_a_model_that_cannot_go_on_is_weighed_zero():
    """After "a" the model never writes what the constraint asks for."""
    rows = {"": [0.6, 0.2, 0.1, 0.1], "a": [0.9, 0.0, 0.1, 0.0], "b": [0.5, 0.25, 0.0, 0.25], "ab": [0.25] * 4}
    lm = TableLM(lambda tokens: rows[VOCABULARY[tokens[-1]] if tokens else ""], VOCABULARY, eos_token_id=3)
    model = ConstrainedText(lm, "(a|b)b", max_tokens=3)
    exact = conditioned(lm, "(a|b)b", 3)
    assert {lm.decode(tokens) for tokens in exact} == {"bb", "ab"}
    posterior = Importance(model, 4000, progress=False).run("")
    # Null: the weights average to Z. 4 standard errors.
    weights = (posterior.log_weights[0] + posterior.log_evidence[0]).exp() * 4000
    assert abs(weights.mean() - sum(exact.values())) < 4 * weights.std() / 4000**0.5
    assert (weights == 0).any()
