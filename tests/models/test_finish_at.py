"""Solutions that end with the step that states the answer."""

import math

import pyro
import pytest

from pyro_llm.errors import OptionError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

LM = TableLM(lambda tokens: [0.4, 0.4, 0.2], ["a\n", r"\boxed{1}", "."], eos_token_id=2)
REWARD = FunctionReward(lambda text: 0.5 if "boxed" in text else 0.8)


def exact_evidence(steps):
    """Sum over texts of their probability times the reward after each step; a box or EOS ends one."""
    ended = 0.4 * 0.5 + 0.2 * 0.8
    return sum((0.4 * 0.8) ** t * ended for t in range(steps)) + (0.4 * 0.8) ** steps


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_a_box_ends_a_solution(particles):
    """Null: the evidence is the sum over texts that end with a box, with EOS or after 4 steps. 4 standard errors."""
    model = ReasoningSSM(LM, REWARD, max_steps=4, stop=None, max_tokens=1, finish_at=r"\boxed")
    pyro.set_rng_seed(0)
    runs = 400 if particles == "vectorized" else 40
    posterior = SMC(model, 8, num_runs=runs, ess_threshold=1.0, particles=particles, progress=False).run("?")
    evidence = posterior.log_evidence.exp()
    assert abs(evidence.mean() - exact_evidence(4)) < 4 * evidence.std() / math.sqrt(runs)
    for text in posterior.texts.flat:
        assert r"\boxed" not in text[:-9]
        assert text.endswith(r"\boxed{1}") or "boxed" not in text
    boxed = ReasoningSSM(LM, REWARD, max_steps=4, stop=None, max_tokens=1)
    pyro.set_rng_seed(0)
    assert any(text.count("boxed") > 1 for text in SMC(boxed, 64, progress=False).run("?").texts.flat)


def test_several_strings():
    model = ReasoningSSM(LM, REWARD, max_steps=4, stop=None, max_tokens=1, finish_at=["a", "boxed"])
    pyro.set_rng_seed(0)
    assert SMC(model, 32, progress=False).run("?").returns.lengths.unique().tolist() == [1]


@pytest.mark.parametrize("finish_at", ["", [""], [3]])
def test_what_is_no_text(finish_at):
    with pytest.raises(OptionError, match="finish_at="):
        ReasoningSSM(LM, REWARD, finish_at=finish_at)
