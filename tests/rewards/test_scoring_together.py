"""Rewards of runs that are made together: in common passes, each run's error and cost its own, in bounded memory."""

import pyro
import pytest
import torch

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.errors import OutOfMemoryError, RewardError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.rewards import TextReward
from pyro_llm.run_scope import current_cost

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
