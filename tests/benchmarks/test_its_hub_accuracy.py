"""What its-hub is given in the comparison: the same texts and scores."""

import pyro
import torch

from benchmarks.its_hub_accuracy import CONTENDERS, models, state_of
from pyro_llm import zoo
from pyro_llm.distributions import LLM
from pyro_llm.run_scope import run_scope


@torch.no_grad()
def test_texts_that_end_have_the_scores_that_they_have_with_us():
    """A reward reads EOS too, which a text does not hold."""
    problem, (lm, reward) = zoo.problems("abacus")[0]["problem"], models()
    pyro.set_rng_seed(0)
    with run_scope():
        state = lm.prompt(problem).expand((6,))
        state = state.append(LLM(lm, state, stop=None, max_tokens=80).sample())
        expected, ended = reward(state), {text for text, over in zip(state.texts, state.finished, strict=True) if over}
    assert ended
    with run_scope():
        torch.testing.assert_close(reward(state_of(problem, list(state.texts), ended)), expected)
    with run_scope():
        assert not torch.allclose(reward(state_of(problem, list(state.texts))), expected)


def test_all_contenders_answer():
    import pytest

    pytest.importorskip("its_hub")
    problem = zoo.problems("abacus")[0]["problem"]
    for solve in CONTENDERS.values():
        found = solve(problem, 4, 0)
        assert found == solve(problem, 4, 0) and float(found) >= 0
