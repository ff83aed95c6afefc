"""Tokens of language models under a budget: exact, also where rows take turns, are read again, or share batches."""

import contextlib
import itertools
import warnings

import pyro
import pytest
import torch

from pyro_llm.budget import Budget
from pyro_llm.distributions import LLM
from pyro_llm.errors import BudgetWarning
from pyro_llm.infer import SMC
from pyro_llm.lm import sampling_pool
from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import SamplingKey
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import BudgetSpent, RunScope, run_scope

REWARD = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))
ITEMS = ["lm_tokens", "lm_tokens_sampled", "lm_tokens_forwarded"]


def solve(lm, budget=None, problem="abc", seed=5):
    pyro.set_rng_seed(seed)
    model = ReasoningSSM(lm, REWARD, max_steps=3, stop=" ", max_tokens=6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        return SMC(model, 5, ess_threshold=1.0, budget=budget).run(problem)


@pytest.mark.parametrize("item", ITEMS)
def test_a_model_with_a_cache_stays_under_the_budget(llama_lm, item):
    full = solve(llama_lm)
    top = getattr(full.cost, item)
    spent = set()
    for limit in [1, 2, 3, *range(4, top, max(1, top // 9)), top - 1]:
        posterior = solve(llama_lm, Budget(**{item: limit}))
        assert getattr(posterior.cost, item) <= limit
        assert posterior.stopped_by == item
        spent.add(getattr(posterior.cost, item))
        for text, whole in zip(posterior.texts.flat, full.texts.flat, strict=True):
            assert not posterior.samples or posterior.stats.num_steps or whole.startswith(text)
    assert len(spent) > 5  # the budget is used, too: rows are drawn for until it is reached
    pyro.set_rng_seed(5)
    model = ReasoningSSM(llama_lm, REWARD, max_steps=3, stop=" ", max_tokens=6)
    again = SMC(model, 5, ess_threshold=1.0, budget=Budget(**{item: top})).run("abc")
    assert again.stopped_by is None and again.texts.tolist() == full.texts.tolist()


def drawn_with(lm, budget, rows=6, max_tokens=7):
    """What a session draws, and what is counted: everything below the engine."""
    state = lm.prompt("abcd").expand((rows,))
    with run_scope(RunScope(budget=budget)) as scope:
        try:
            key = SamplingKey(11, torch.arange(rows))
            tokens = state.session.sample(state.prefix(), Decoding(max_tokens=max_tokens), key).tokens
        except BudgetSpent:
            tokens = None
    return tokens, scope.cost


@pytest.mark.parametrize("looks_always", [True, False])
def test_the_host_need_not_look_for_the_count_to_be_exact(llama_lm, monkeypatch, looks_always):
    """As on an accelerator, where which rows have ended is seen every few tokens only."""
    monkeypatch.setattr(sampling_pool, "_looks_always", lambda device: looks_always)
    tokens, cost = drawn_with(llama_lm, None)
    going_on = [int((tokens[:, place] != -1).sum()) for place in range(tokens.shape[1])]
    passes = list(itertools.accumulate(going_on))
    assert cost.lm_tokens_sampled == passes[-1]
    for limit in range(1, passes[-1] + 2):
        drawn, cost = drawn_with(llama_lm, Budget(lm_tokens_sampled=limit))
        reached = [count for count in passes if count <= limit]
        assert cost.lm_tokens_sampled == (reached[-1] if reached else 0)
        assert (drawn is None) == (limit < passes[-1])
        if drawn is not None:
            assert torch.equal(drawn, tokens)


def test_the_host_counts_rarely_far_from_the_budget(llama_lm, monkeypatch):
    counted = []
    tally = sampling_pool.SamplingPool._tally
    monkeypatch.setattr(sampling_pool, "_looks_always", lambda device: False)
    monkeypatch.setattr(sampling_pool.SamplingPool, "_tally", lambda *args: counted.append(1) or tally(*args))
    tokens, _ = drawn_with(llama_lm, Budget(lm_tokens=1000))
    assert tokens is not None and len(counted) == 1
    drawn_with(llama_lm, None)
    assert len(counted) == 1


def test_forwarded_tokens_are_exact_where_rows_end(table_lm):
    """Rows that end by EOS are not read any further: what is read is known only after the draw."""
    for seed in range(3):
        pyro.set_rng_seed(seed)
        model = ReasoningSSM(table_lm, REWARD, max_steps=4, max_tokens=5)
        full = SMC(model, 7).run("p")
        pyro.set_rng_seed(seed)
        same = SMC(model, 7, budget=Budget(lm_tokens_forwarded=full.cost.lm_tokens_forwarded)).run("p")
        assert same.stopped_by is None and same.texts.tolist() == full.texts.tolist()


@pytest.mark.parametrize("item", ITEMS)
def test_runs_in_one_batch_are_counted_apart(llama_lm, item):
    problems, seeds = ["abc", "x1", "abcdefgh", "q"], [1, 2, 3, 4]
    model = ReasoningSSM(llama_lm, REWARD, max_steps=3, stop=" ", max_tokens=6)
    for limit in (9, 33, 61):
        smc = SMC(model, 5, ess_threshold=1.0, budget=Budget(**{item: limit}))
        with pytest.warns(BudgetWarning):
            together = smc.run_each(problems, concurrent=4, seeds=seeds)
        for problem, seed, posterior in zip(problems, seeds, together, strict=True):
            alone = solve(llama_lm, Budget(**{item: limit}), problem, seed)
            assert getattr(posterior.cost, item) == getattr(alone.cost, item) <= limit
            assert posterior.texts.tolist() == alone.texts.tolist()


def test_one_run_that_stops_does_not_stop_its_neighbours(llama_lm):
    """They are in one batch, and only the long problem is too much for the budget."""
    model = ReasoningSSM(llama_lm, REWARD, max_steps=3, stop=" ", max_tokens=6)
    smc = SMC(model, 5, ess_threshold=1.0)
    problems, seeds = ["a", "abcdefghij" * 5, "b"], [1, 2, 3]
    free = smc.run_each(problems, concurrent=3, seeds=seeds)
    costs = [posterior.cost.lm_tokens_forwarded for posterior in free]
    limit = max(costs[0], costs[2])
    assert costs[1] > limit
    smc.budget = Budget(lm_tokens_forwarded=limit)
    with pytest.warns(BudgetWarning):
        posteriors = smc.run_each(problems, concurrent=3, seeds=seeds)
    assert [posterior.stopped_by is None for posterior in posteriors] == [True, False, True]
    for posterior, other in zip(posteriors, free, strict=True):
        if posterior.stopped_by is None:
            assert posterior.texts.tolist() == other.texts.tolist()
            assert torch.equal(posterior.log_weights, other.log_weights)


def test_scored_tokens_are_claimed_before_they_are_read(llama_lm):
    state = llama_lm.prompt("abcd").expand((4,))
    tokens = torch.tensor([[5, 6, 7, 8]] * 4)
    law = LLM(llama_lm, state, max_tokens=4)
    with run_scope() as scope:
        law.log_prob(tokens)
    for limit in range(1, scope.cost.lm_tokens_forwarded + 1):
        stops = pytest.raises(BudgetSpent) if limit < scope.cost.lm_tokens_forwarded else contextlib.nullcontext()
        with run_scope(RunScope(budget=Budget(lm_tokens_forwarded=limit))) as limited, stops:
            law.log_prob(tokens)
        assert limited.cost.lm_tokens_forwarded <= limit
    assert limited.cost.lm_tokens_forwarded == limit


def test_rows_that_take_turns(llama_lm, monkeypatch):
    """Memory for two rows at a time: rows that wait count too."""
    with run_scope():
        decoder = llama_lm.prompt("abcd").session._decoder
    monkeypatch.setattr(type(decoder.memory), "rows_that_fit", lambda self, row_bytes: 2)
    tokens, cost = drawn_with(llama_lm, None)
    total = cost.lm_tokens_sampled
    for limit in range(1, total + 1, 3):
        drawn, cost = drawn_with(llama_lm, Budget(lm_tokens_sampled=limit))
        assert cost.lm_tokens_sampled <= limit and (drawn is None) == (limit < total)
        assert limit - cost.lm_tokens_sampled < 2
    exact, _ = drawn_with(llama_lm, Budget(lm_tokens_sampled=total))
    assert torch.equal(exact, tokens)
