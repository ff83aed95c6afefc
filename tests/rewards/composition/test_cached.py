"""Scores that outlive a run."""

import itertools
import timeit

import pyro
import pytest
import torch

from pyro_llm import Budget, load_lm, load_reward
from pyro_llm.errors import OptionError, RewardError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import Cached, FunctionReward, TemperatureScaling
from pyro_llm.run_scope import run_scope

VOCABULARY = ["a", "b", "c", "."]


def state_of(*rows):
    lm = TableLM(lambda tokens: [0.25] * 4, VOCABULARY, eos_token_id=3)
    return lm.prompt("").append(torch.tensor(rows))


def test_the_second_run_makes_no_forward_pass():
    lm, reward = load_lm("abacus"), load_reward("abacus")
    kept = reward.cached()
    posteriors = []
    for judge in (reward, kept, kept):
        pyro.set_rng_seed(0)
        posteriors.append(
            SMC(ReasoningSSM(lm, judge, max_steps=3, max_tokens=12), 4, progress=False).run("What is 3 + 4?")
        )
    plain, first, second = posteriors
    assert first.cost.reward_calls == plain.cost.reward_calls > 0
    assert first.cost.reward_tokens == plain.cost.reward_tokens > 0
    assert second.cost.reward_calls == second.cost.reward_tokens == 0
    assert second.cost.lm_tokens_sampled == first.cost.lm_tokens_sampled > 0
    torch.testing.assert_close(first.log_evidence, plain.log_evidence, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.as_tensor(second.log_evidence), torch.as_tensor(first.log_evidence))
    pyro.set_rng_seed(0)
    nothing = Budget(reward_calls=1)
    model = ReasoningSSM(lm, kept, max_steps=3, max_tokens=12)
    assert SMC(model, 4, progress=False, budget=nothing).run("What is 3 + 4?").stopped_by is None


def test_each_text_is_scored_once_and_the_oldest_go_first():
    asked = []
    reward = FunctionReward(lambda text: asked.append(text) or len(text) / 10).cached(size=2)
    for rows, expected in [
        ([[0], [1]], ["a", "b"]),
        ([[0], [0]], []),  # a is now the one asked for last
        ([[2]], ["c"]),  # and b goes
        ([[0]], []),
        ([[1]], ["b"]),
    ]:
        asked.clear()
        with run_scope():
            assert reward(state_of(*rows)).sigmoid().tolist() == pytest.approx([0.1] * len(rows))
        assert asked == expected
        assert len(reward) == min(2, len(reward))


def test_more_texts_than_are_kept():
    reward = FunctionReward(lambda text: len(text) / 10).cached(size=1)
    state = state_of([0, -1], [1, 1], [2, 1])
    for _ in range(2):
        assert reward(state).sigmoid().tolist() == pytest.approx([0.1, 0.2, 0.2])
        assert len(reward) == 1


def test_neither_a_hit_nor_a_new_text_takes_longer_the_more_is_kept():
    """Each hit copied all that is kept: either takes less than a quarter of the time of one such copy."""
    reward = FunctionReward(lambda text: 0.5).cached(size=400_000)
    reward._kept.keep({str(number): 0.0 for number in range(400_000)})
    items = list(reward.items(state_of([0])))
    new = itertools.count()
    with run_scope():
        reward.score(items)
    copy = min(timeit.repeat(lambda: list(reward._kept._scores), number=1, repeat=3))
    hits = min(timeit.repeat(lambda: reward.score(items), number=100, repeat=3))
    replaced = min(timeit.repeat(lambda: reward._kept.keep({next(new): 0.0}), number=100, repeat=3))
    assert max(hits, replaced) < 100 * copy / 4
    assert len(reward) == 400_000


def test_problems_and_endings_are_kept_apart():
    reward = load_reward("abacus")
    kept, lm = reward.cached(), load_lm("abacus")
    ids = lm.encode("3 + 4 = 7\n")
    states = [lm.prompt(text).append(torch.tensor(ids)) for text in ("What is 3 + 4?", "What is 3 + 5?")]
    states.append(lm.prompt("What is 3 + 4?").append(torch.tensor([*ids, lm.eos_token_ids[0]])))
    scores = [kept(state).item() for state in states]
    assert scores == pytest.approx([reward(state).item() for state in states], abs=1e-5)
    assert len(kept) == len(set(scores)) == 3


def test_composition_and_equality():
    def law(text):
        return 0.5

    reward = FunctionReward(law)
    assert reward.cached() == reward.cached() != reward.cached(size=3)
    assert len({reward.cached(), reward.cached()}) == 1
    calibration = TemperatureScaling(temperature=2.0)
    assert reward.cached().calibrated(calibration)(state_of([0])).tolist() == [0.0]
    with pytest.raises(RewardError, match=r"reward.cached\(\).calibrated"):
        Cached(reward.calibrated(calibration))
    with pytest.raises(OptionError, match="size=0"):
        reward.cached(size=0)
