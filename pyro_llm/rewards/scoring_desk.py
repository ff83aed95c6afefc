"""Texts of several runs scored together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pyro_llm.errors import OutOfMemoryError
from pyro_llm.lm.memory import is_out_of_memory
from pyro_llm.rendezvous import Request
from pyro_llm.run_scope import BudgetSpent, Cost, RunScope, note_held, run_scope, spending_scope

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
    serves; the tokens are divided among them in proportion to their items. What a failed attempt has cost counts too.

    Args:
        score: log-odds of items.
        beside: whether turns may be taken beside all else; see `Service`.
        single: whether it is for one request.
    """

    def __init__(self, score: Score, beside: bool = False, single: bool = False) -> None:
        self._score, self.beside, self.single = score, beside, single
        self._scope = RunScope()
        self._waiting: list[ScoreRequest] = []

    def admit(self, request: ScoreRequest) -> None:
        """Take a request; see `Service`."""
        self._waiting.append(request)

    def advance(self) -> None:
        """Score what waits; see `Service`. If that fails, each request by itself, so that only its own run fails."""
        waiting, self._waiting = self._waiting, []
        items = list(dict.fromkeys(item for request in waiting for item in request.items))
        spent = self._scope.cost = Cost()
        self._scope.passes_on = partial(_claim, waiting)
        try:
            with run_scope(self._scope):
                scores = dict(zip(items, self._score(items), strict=True))
        except BudgetSpent as stop:
            _charge(waiting, spent)
            for request in waiting:
                if request.scope is stop.scope:
                    request.fail(stop)
            self._waiting = [request for request in waiting if not request.done]
            return
        except Exception as error:
            _charge(waiting, spent)
            if len(waiting) == 1:
                waiting[0].fail(error)
                return
            for request in waiting:
                self._waiting = [request]
                self.advance()
            return
        _charge(waiting, spent)
        for request in waiting:
            for held in (spent.peak_memory_bytes, self._scope.held_bytes):
                request.context.run(note_held, self, held)
            request.settle([scores[item] for item in request.items])


def _claim(requests: Sequence[ScoreRequest], spent: Cost) -> None:
    """Claim, from the runs of some requests, their shares of what will have been spent; of tokens rounded up."""
    total = sum(len(request.items) for request in requests)
    for request in requests:
        tokens = -(-spent.reward_tokens * len(request.items) // total)
        request.scope.claim(reward_calls=spent.reward_calls, reward_tokens=tokens)


def _charge(requests: Sequence[ScoreRequest], spent: Cost) -> None:
    """Have the runs of some requests bear what scoring them together has cost."""
    total, so_far = sum(len(request.items) for request in requests), 0
    for request in requests:
        share = spent.reward_tokens * (so_far + len(request.items)) // total - spent.reward_tokens * so_far // total
        request.scope.cost.reward_calls += spent.reward_calls
        request.scope.cost.reward_tokens += share
        so_far += len(request.items)


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
