"""`ConstrainedText` on the embedded model and on JSON; what it refuses."""

import json
import math

import pyro
import pytest
import torch

import pyro_llm
from pyro_llm.errors import ConstraintError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.lm.constraint import Constraint
from pyro_llm.models import ConstrainedText

pytest.importorskip("outlines_core", exc_type=ImportError)


def test_the_embedded_model():
    """Every text answers at once, and its weight is its probability under the model over that of its drawing."""
    pyro.set_rng_seed(0)
    lm = pyro_llm.load_lm("abacus")
    model = ConstrainedText(lm, r"answer: \d+", max_tokens=12)
    posterior = SMC(model, num_particles=8, ess_threshold=0, progress=False).run("Mia has 4 marbles. How many marbles?")
    for particle in range(8):
        text = posterior.texts[0, particle]
        assert text.startswith("answer: ")
        assert text[8:].isdigit()
    state = posterior.returns
    rows = state.tokens[0]
    prompt = lm.prompt("Mia has 4 marbles. How many marbles?").expand((8,))
    width = rows.shape[-1]
    law = pyro_llm.distributions.LLM(lm, prompt, max_tokens=width).log_prob(rows)
    joint = posterior.log_prior[0] + posterior.log_likelihood[0]
    torch.testing.assert_close(joint, law.double(), rtol=1e-4, atol=1e-4)
    assert posterior.cost.lm_calls <= 12 + 1  # a pass a token, and the prompt


def test_json():
    characters = sorted({*'{}":n0123456789-, '})
    lm = TableLM(
        lambda tokens: [1 / (len(characters) + 1)] * (len(characters) + 1), [*characters, "."], len(characters)
    )
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    model = ConstrainedText(lm, Constraint.json_schema(schema), max_tokens=9)
    posterior = SMC(model, num_particles=50, progress=False).run("")
    for text in posterior.texts[0]:
        assert isinstance(json.loads(text)["n"], int)
    assert (posterior.returns.lengths <= 9).all()
    assert posterior.returns.finished.all()


def test_cost_of_a_replay():
    """Resampling and replaying asks for no factor again: each token is forwarded once."""
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
    model = ConstrainedText(lm, "(a|bb)*", max_tokens=8)
    posterior = SMC(model, num_particles=20, ess_threshold=1.0, progress=False).run("")
    assert posterior.stats.resampled.sum() >= 6
    assert posterior.cost.lm_calls <= 8


def conditional(tokens):
    return [0.5, 0.3, 0.2]


def test_value_semantics():
    lm = TableLM(conditional, ["a", "b", "."], eos_token_id=2)
    model = ConstrainedText(lm, "a", max_tokens=2)
    assert "constraint='a', max_tokens=2" in repr(model)
    posterior = SMC(model, num_particles=3, progress=False).run("")
    assert posterior.log_evidence.item() == pytest.approx(math.log(0.5 * 0.2))


@pytest.mark.parametrize(
    ("pattern", "max_tokens", "message"),
    [("aab", 3, "the shortest has 4"), ("(", 3, "no regular expression"), ("xyz", 3, "No text that the vocabulary")],
)
def test_what_cannot_be_satisfied(pattern, max_tokens, message):
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
    with pytest.raises(ConstraintError, match=message):
        ConstrainedText(lm, pattern, max_tokens=max_tokens)
    with pytest.raises(ValueError, match="max_tokens"):
        ConstrainedText(lm, "a", max_tokens=0)
