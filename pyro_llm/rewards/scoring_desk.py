"""Texts of several runs scored together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from typing import Any

from pyro_llm.errors import OutOfMemoryError
from pyro_llm.lm.memory import is_out_of_memory
from pyro_llm.rendezvous import Request
from pyro_llm.run_scope import BudgetSpent, Cost, RunScope, run_scope, spending_scope

Score = Callable[[Sequence[Any]], list[float]]


class ScoreRequest(Request[list[float]]):
    """Distinct items of one run that are to be scored."""

    def __init__(self, items: Sequence[Any]) -> None:
        super().__init__()
        self.items = items
        self.scope = spending_scope()


class ScoringDesk:
    """Scores, in a turn, the items of all runs that wait.

    What the reward remembers (keys and values, say) is that of all these runs. A pass counts for each run that it
    serves; the tokens are divided among them in proportion to their items.

    Args:
        score: log-odds of items.
    """

    def __init__(self, score: Score) -> None:
        self._score = score
        self._scope = RunScope()
        self._waiting: list[ScoreRequest] = []

    def admit(self, request: ScoreRequest) -> None:
        """Take a request; see `Service`."""
        self._waiting.append(request)

    def advance(self) -> None:
        """Score what waits; see `Service`. If that fails, each request by itself, so that only its own run fails."""
        waiting, self._waiting = self._waiting, []
        items = list(dict.fromkeys(item for request in waiting for item in request.items))
        spent_before = copy(self._scope.cost)
        self._scope.passes_on = partial(_claim, waiting, spent_before)
        try:
            with run_scope(self._scope):
                scores = dict(zip(items, self._score(items), strict=True))
        except BudgetSpent as spent:
            self._count(waiting, spent_before)
            for request in waiting:
                if request.scope is spent.scope:
                    request.fail(spent)
            self._waiting = [request for request in waiting if not request.done]
            return
        except Exception as error:
            if len(waiting) == 1:
                waiting[0].fail(error)
                return
            for request in waiting:
                self._waiting = [request]
                self.advance()
            return
        self._count(waiting, spent_before)
        for request in waiting:
            request.settle([scores[item] for item in request.items])

    def _count(self, waiting: Sequence[ScoreRequest], before: Cost) -> None:
        """Count, for the runs that wait, what has been spent on them."""
        calls = self._scope.cost.reward_calls - before.reward_calls
        tokens = self._scope.cost.reward_tokens - before.reward_tokens
        total, so_far = sum(len(request.items) for request in waiting), 0
        for request in waiting:
            share = tokens * (so_far + len(request.items)) // total - tokens * so_far // total
            request.scope.cost.reward_calls += calls
            request.scope.cost.reward_tokens += share
            so_far += len(request.items)


def _claim(waiting: Sequence[ScoreRequest], before: Cost, spent: Cost) -> None:
    """Claim, from the runs that wait, their shares of what will have been spent; of tokens rounded up."""
    calls, tokens = spent.reward_calls - before.reward_calls, spent.reward_tokens - before.reward_tokens
    total = sum(len(request.items) for request in waiting)
    for request in waiting:
        request.scope.claim(reward_calls=calls, reward_tokens=-(-tokens * len(request.items) // total))


def scored_in_turns(score: Score, items: Sequence[Any]) -> list[float]:
    """Score items, half as many at a time where memory runs out.

    Raises:
        OutOfMemoryError: there is not enough memory for a single item.
    """
    try:
        return score(items)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise OutOfMemoryError(
                f"There is not enough memory for a reward model to read a single text ({error}). Load it with "
                "dtype='bfloat16', or free what others hold."
            ) from error
        half = len(items) // 2
        return scored_in_turns(score, items[:half]) + scored_in_turns(score, items[half:])
