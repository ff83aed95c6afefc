"""The parts of the studies of imperfect rewards: scores of prefixes, what is searched, what intervals cover."""

import numpy as np
import pyro
import pytest
import torch

from benchmarks import corrupted_reward
from benchmarks.corruption import Prefix, interval, scores
from pyro_llm.lm import TableLM
from pyro_llm.rewards import Disturbed, FunctionReward

LM = TableLM(lambda tokens: [0.45, 0.45, 0.1], ["a\n", "b\n", "."], eos_token_id=2)
REWARD = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))


@pytest.mark.parametrize("kind", ["flipped", "corrupted"])
def test_scores_of_prefixes_are_those_of_the_disturbed_reward(kind):
    rows = torch.tensor([[i >> bit & 1 for bit in range(7)] for i in range(128)])
    state, reward = LM.prompt("?").append(rows), Disturbed(REWARD, kind, 0.25, seed=1)
    prefixes = [Prefix("?", text, z, True) for text, z in zip(state.texts, REWARD(state).tolist(), strict=True)]
    expected = reward(state).sigmoid()
    assert not torch.equal(expected, REWARD(state).sigmoid())
    torch.testing.assert_close(torch.tensor(scores(reward, prefixes), dtype=torch.float64), expected)


def test_intervals_cover_what_varies():
    assert interval(np.full((3, 4), 0.5)) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    generator = np.random.default_rng(0)
    effects = generator.normal(size=400)
    found = interval(np.tile(effects, (5, 1)))  # seeds alike: the error is that of the mean over problems
    half = (found["high"] - found["low"]) / 2
    assert half == pytest.approx(1.96 * effects.std() / 20, rel=0.1)
    assert found["mean"] == pytest.approx(effects.mean())


def test_beam_search_keeps_the_highest_scores(monkeypatch):
    """Beam search finds a text with fewer "b"; best-of-N cannot choose on the way."""
    monkeypatch.setattr(corrupted_reward, "models", lambda: (LM, REWARD))
    monkeypatch.setattr(corrupted_reward.pyro_llm, "answer", lambda text: text)

    reward = FunctionReward(lambda text: (100 + text.count("a") - text.count("b")) / 1000)

    def share(expansion):
        pyro.set_rng_seed(0)
        text = corrupted_reward.beam_search("?", reward, 16, expansion)
        return text.count("a") - text.count("b")

    assert share(4) > share(1)
