"""Reward tokens and calls under a budget: exact, whoever counts them, also in calls that serve several runs."""

import contextlib

import pyro
import pytest
import torch

from pyro_llm.budget import Budget
from pyro_llm.errors import BudgetWarning
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward, RegexReward

PROBLEMS = ["ab", "abca", "cab.", "b"]
SEEDS = [4, 5, 6, 7]


def filter_with(lm, reward, budget=None):
    model = ReasoningSSM(lm, reward, max_steps=4, stop=".", max_tokens=3)
    return SMC(model, 5, ess_threshold=1.0, budget=budget)


def solve(lm, reward, budget=None, problem="ab", seed=4):
    pyro.set_rng_seed(seed)
    return filter_with(lm, reward, budget).run(problem)


@pytest.mark.parametrize("item", ["reward_tokens", "reward_calls"])
@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_process_reward_stays_under_the_budget(letter_lm, rewards_of, architecture, item):
    reward = rewards_of(architecture, batch_size=3)
    full = solve(letter_lm, reward)
    top = getattr(full.cost, item)
    seen = set()
    for limit in [*range(1, top, max(1, top // 8)), top - 1]:
        with pytest.warns(BudgetWarning):
            posterior = solve(letter_lm, reward, Budget(**{item: limit}))
        assert getattr(posterior.cost, item) <= limit and posterior.stopped_by == item
        seen.add(posterior.stats.num_steps)
    assert len(seen) > 2
    same = solve(letter_lm, reward, Budget(**{item: top}))
    assert same.stopped_by is None and torch.equal(same.log_weights, full.log_weights)


@pytest.mark.parametrize("item", ["reward_tokens", "reward_calls"])
def test_shares_of_common_passes(letter_lm, rewards_of, item):
    reward = rewards_of("llama")
    full = filter_with(letter_lm, reward).run_each(PROBLEMS, concurrent=4, seeds=SEEDS)
    top = max(getattr(posterior.cost, item) for posterior in full)
    for limit in range(1, top + 1, max(1, top // 6)):
        smc = filter_with(letter_lm, reward, Budget(**{item: limit}))
        with pytest.warns(BudgetWarning) if limit < top else contextlib.nullcontext():
            posteriors = smc.run_each(PROBLEMS, concurrent=4, seeds=SEEDS)
        for posterior, other in zip(posteriors, full, strict=True):
            assert getattr(posterior.cost, item) <= limit
            if posterior.stopped_by is None:
                assert posterior.texts.tolist() == other.texts.tolist()
                torch.testing.assert_close(posterior.log_weights, other.log_weights)


def test_verifiers_and_functions(letter_lm):
    for reward in (RegexReward(r"[ab.?c]*"), FunctionReward(lambda text: 0.5)):
        full = solve(letter_lm, reward)
        for limit in range(1, full.cost.reward_calls):
            with pytest.warns(BudgetWarning):
                posterior = solve(letter_lm, reward, Budget(reward_calls=limit))
            assert posterior.cost.reward_calls <= limit
