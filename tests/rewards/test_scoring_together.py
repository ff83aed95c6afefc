"""Rewards of runs that are made together: in common passes, each run's error and cost its own, in bounded memory."""

import warnings
from threading import Lock, get_ident
from time import monotonic, sleep

import pyro
import pytest
import torch

import pyro_llm
from pyro_llm import Budget
from pyro_llm.distributions import LLM
from pyro_llm.errors import BudgetWarning, OutOfMemoryError, RewardError
from pyro_llm.infer import SMC
from pyro_llm.infer.turns import own_error
from pyro_llm.lm import TableLM
from pyro_llm.lm.sampling_pool import SamplingPool
from pyro_llm.rewards import FunctionReward, TextReward
from pyro_llm.rewards.scoring_desk import ScoreRequest, ScoringDesk
from pyro_llm.run_scope import claim, current_cost, note_held, run_scope

LM = TableLM(lambda tokens: [0.4, 0.3, 0.2, 0.1], ["a", "b", "\n", "."], eos_token_id=3)
PROBLEMS = ["one", "two", "three", "four"]


class Judge(TextReward):
    """Counts as a model does: a pass a call, a token a letter."""

    scores_together = True

    def __init__(self):
        self.calls = []

    def items(self, state):
        return [(state.prompt, text) for text in state.texts.reshape(-1)]

    def score(self, items):
        self.calls.append(items)
        if ("two", "b") in items:
            raise RewardError("no score for b")
        current_cost().reward_calls += 1
        current_cost().reward_tokens += sum(len(problem + text) for problem, text in items)
        return [0.3 * len(text) + 0.1 * len(problem) - 1 for problem, text in items]


def program(reward):
    def model(problem):
        state = LM.prompt(problem)
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(LM, state, stop="\n", max_tokens=1 + t)))
            pyro_llm.accept(f"accept_{t}", reward, state)
        return state

    return model


def test_one_call_scores_the_texts_of_all_runs_that_wait():
    seeds, alone = [11, 3, 5, 6], Judge()
    expected = []
    for problem, seed in zip([*PROBLEMS[::2], "four"], [11, 5, 6], strict=True):
        pyro.set_rng_seed(seed)
        expected.append(SMC(program(alone), 4).run(problem))
    together = Judge()
    posteriors = SMC(program(together), 4).run_each([*PROBLEMS[::2], "four"], seeds=[seeds[i] for i in (0, 2, 3)])
    for posterior, other in zip(posteriors, expected, strict=True):
        assert posterior.texts.tolist() == other.texts.tolist()
        assert torch.equal(posterior.log_evidence, other.log_evidence)
        assert posterior.cost.reward_calls <= other.cost.reward_calls
    assert len({problem for problem, _ in together.calls[0]}) == 3
    assert len(together.calls) < len(alone.calls)
    tokens = sum(len(problem + text) for call in together.calls for problem, text in call)
    assert sum(posterior.cost.reward_tokens for posterior in posteriors) == tokens


def test_an_error_of_one_run_is_not_that_of_the_others():
    reward = Judge()
    outcomes = list(SMC(program(reward), 64, ess_threshold=0).iter_each(PROBLEMS, seeds=range(4)))
    errors = {outcome.problem: outcome.error for outcome in outcomes}
    assert isinstance(errors.pop("two"), RewardError)
    assert set(errors.values()) == {None}


class Scarce(Judge):
    def __init__(self, most):
        super().__init__()
        self.most = most

    def score(self, items):
        if len(items) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().score(items)


def test_out_of_memory():
    expected = Judge()
    scarce = Scarce(2)
    state = LM.prompt("one").append(torch.tensor([[0, 0], [0, 1], [1, 1], [1, 0], [2, -1]]))
    assert torch.equal(scarce(state), expected(state))
    assert len(scarce.calls) == 3
    with pytest.raises(OutOfMemoryError, match="a single text"):
        Scarce(0)(state)


def test_a_limit_of_a_function_is_no_lack_of_memory():
    """Asking it again for half of the texts would not help, and its own error is to be seen."""
    calls = []

    def fn(text):
        calls.append(text)
        raise MemoryError("the sandbox allows 64 MB")

    with pytest.raises(MemoryError, match="sandbox") as caught:
        FunctionReward(fn)(LM.prompt("one").append(torch.tensor([[0], [1], [2]])))
    assert type(caught.value) is MemoryError and len(calls) == 1


def test_what_a_failed_attempt_cost_counts():
    class Failing(Judge):
        def score(self, items):
            current_cost().reward_calls += 1
            current_cost().reward_tokens += 12
            if len({problem for problem, _ in items}) > 1:
                raise RewardError("together they cannot be scored")
            return [0.0 for _ in items]

    desk, requests = ScoringDesk(Failing().score), []
    for problem in ("one", "two", "three"):
        with run_scope() as scope:
            requests.append((ScoreRequest([(problem, "a"), (problem, "b")]), scope))
        desk.admit(requests[-1][0])
    desk.advance()
    assert [request.result() for request, _ in requests] == [[0.0, 0.0]] * 3
    assert [(scope.cost.reward_calls, scope.cost.reward_tokens) for _, scope in requests] == [(2, 4 + 12)] * 3


class Beside(Judge):
    """Waits, in a thread of its own, until the language model has drawn tokens of other runs."""

    scores_beside = True
    lock = Lock()

    def __init__(self, together):
        super().__init__()
        self.scores_together, self.threads, self.in_flight, self.overlaps = together, set(), 0, 0

    def score_beside(self, items):
        self.threads.add(get_ident())
        with self.lock:
            self.in_flight += 1
        before = drawn[0]
        deadline = monotonic() + 0.3
        while drawn[0] == before and monotonic() < deadline:
            sleep(0.001)
        self.overlaps += drawn[0] > before
        with self.lock:
            self.in_flight -= 1
        return self.score(items)


drawn = [0]


@pytest.mark.parametrize("together", [True, False])
def test_a_reward_that_scores_beside_leaves_the_language_model_at_work(monkeypatch, together):
    advance = SamplingPool.advance

    def counted(pool):
        advance(pool)
        drawn[0] += 1

    monkeypatch.setattr(SamplingPool, "advance", counted)
    problems, seeds = ["one", "three", "four"] * 2, range(6)
    expected, beside = Judge(), Beside(together)
    one_by_one = SMC(program(expected), 4).run_each(problems, seeds=seeds)
    posteriors = SMC(program(beside), 4).run_each(problems, seeds=seeds, concurrent=3)
    for posterior, other in zip(posteriors, one_by_one, strict=True):
        assert posterior.texts.tolist() == other.texts.tolist()
        assert torch.equal(posterior.log_evidence, other.log_evidence)
    assert beside.overlaps >= 2 and get_ident() not in beside.threads and beside.in_flight == 0
    outcomes = list(SMC(program(Beside(together)), 64, ess_threshold=0).iter_each(PROBLEMS, seeds=range(4)))
    errors = {outcome.problem: outcome.error for outcome in outcomes}
    assert isinstance(errors.pop("two"), RewardError)
    assert set(errors.values()) == {None}


class Claiming(Beside):
    """Claims what it spends before it does, from whichever thread it is called in."""

    def score(self, items):
        claim(reward_calls=1, reward_tokens=sum(len(problem + text) for problem, text in items))
        return super().score(items)


@pytest.mark.parametrize(
    "together, item, limit",
    [
        (True, "reward_calls", 2), (True, "reward_tokens", 3),  # (with more, a run pays its part of what all took)
        (False, "reward_calls", 2), (False, "reward_tokens", 50), (False, "reward_tokens", 3),
    ],
)  # fmt: skip
def test_each_run_stays_under_its_own_budget_where_a_reward_scores_beside(together, item, limit):
    """What is claimed in a thread is claimed from the runs that it works for, and leaves the others alone."""
    problems, seeds = ["one", "five", "eleven hundred"] * 2, range(6)
    smc = SMC(program(Claiming(together)), 4, budget=Budget(**{item: limit}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        alone = []
        for problem, seed in zip(problems, seeds, strict=True):
            pyro.set_rng_seed(seed)
            alone.append(SMC(program(Claiming(together)), 4, budget=Budget(**{item: limit})).run(problem))
        beside = smc.run_each(problems, seeds=seeds, concurrent=3)
    for posterior, other in zip(beside, alone, strict=True):
        assert getattr(posterior.cost, item) <= limit
        assert posterior.stopped_by == other.stopped_by
        assert posterior.texts.tolist() == other.texts.tolist()
        assert torch.equal(posterior.log_weights, other.log_weights)
        assert getattr(posterior.cost, item) == getattr(other.cost, item)
    stopped = {posterior.stopped_by for posterior in beside}
    assert stopped == ({item} if limit == 3 else {item, None})


def test_each_run_gets_an_error_of_its_own(monkeypatch):
    def fail(pool):
        raise RuntimeError("the model is broken")

    monkeypatch.setattr(SamplingPool, "advance", fail)
    errors = [outcome.error for outcome in SMC(program(Judge()), 4).iter_each(PROBLEMS[:3], seeds=range(3))]
    assert len({id(error) for error in errors}) == 3
    assert {str(error) for error in errors} == {"the model is broken"}
    assert len({id(error.__cause__) for error in errors}) == 1 and errors[0].__cause__ is not None


def test_an_error_that_cannot_be_copied():
    class Peculiar(Exception):
        def __init__(self, one, two):
            super().__init__(f"{one} {two}")

    error = Peculiar("no", "luck")
    mine = own_error(error)
    assert isinstance(mine, RuntimeError) and str(mine) == "Peculiar: no luck" and mine.__cause__ is error


def test_peak_memory_counts_what_a_reward_holds_for_all_runs():
    class Holding(Judge):
        def score(self, items):
            note_held(self, 1000)
            note_held(self, 400)
            return super().score(items)

    posteriors = SMC(program(Holding()), 4).run_each(["one", "four"], seeds=range(2))
    assert [posterior.cost.peak_memory_bytes for posterior in posteriors] == [1000, 1000]
