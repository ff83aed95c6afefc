"""The parts of the studies of imperfect rewards: scores of prefixes, who errs, what intervals cover."""

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import typer
from rich.console import Console
from scipy.stats import t as student_t

from benchmarks.corruption import Prefix, interval, labelled_prefixes, scores
from benchmarks.unreliable import Unreliable
from pyro_llm import zoo
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


def test_raters_turn_round_each_verdict_at_a_rate_of_its_own():
    """1,024 texts of either verdict; z-tests of 4 in both fail by chance in 13 of 100,000."""
    z = torch.cat([torch.full((1024,), 2.0), torch.full((1024,), -1.0)]).double()
    texts = [str(i) for i in range(2048)]
    first, second = (Unreliable(REWARD, 0.9, 0.6, seed=1, name=name) for name in ("first", "second"))
    kept = first.disturb(z, "?", texts) == z
    for share, expected in ((kept[:1024], 0.9), (kept[1024:], 0.6)):
        assert abs(float(share.double().mean()) - expected) < 4 * math.sqrt(expected * (1 - expected) / 1024)
    assert torch.equal(first.disturb(z, "?", texts).abs(), z.abs())
    other = second.disturb(z, "?", texts) == z
    both = float((kept & other)[1024:].double().mean())  # independent errors: 0.36
    assert abs(both - 0.36) < 4 * math.sqrt(0.36 * 0.64 / 1024)
    state = LM.prompt("?").append(torch.tensor([[0], [1]]))
    expected = first.disturb(REWARD(state).double(), "?", ["a\n", "b\n"])
    torch.testing.assert_close(first(state), expected)


def test_intervals_cover_what_varies():
    assert interval(np.full((3, 4), 0.5)) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    generator = np.random.default_rng(0)
    effects = generator.normal(size=400)
    found = interval(np.tile(effects, (5, 1)))  # seeds alike: the error is that of the mean over problems
    half = (found["high"] - found["low"]) / 2
    assert half == pytest.approx(student_t.ppf(0.975, 4) * effects.std(ddof=1) / 20, rel=0.2)
    assert found["mean"] == pytest.approx(effects.mean())


def test_intervals_hold_the_truth_as_often_as_they_say():
    """1,000 studies with effects of seed, problem and cell. Null: 95 %; below 92 % in fewer than 1 of 10,000 tests."""
    generator = np.random.default_rng(1)
    held = []
    for _ in range(1000):
        values = generator.normal(size=(12, 1)) * 0.1 + generator.normal(size=20) * 0.15
        found = interval(values + generator.normal(size=(12, 20)) * 0.45)
        held.append(found["low"] < 0 < found["high"])
    assert 0.92 < np.mean(held) < 0.995


def test_more_labels_than_prefixes():
    """The pool is this thread: one problem, whose rollout has a handful of prefixes."""
    problems = zoo.problems("abacus")[:1]
    with ThreadPoolExecutor(1) as pool, pytest.raises(typer.BadParameter, match=r"--labels 100: .* 1 of 1 problems"):
        labelled_prefixes(pool, problems, 100, Console(quiet=True))
