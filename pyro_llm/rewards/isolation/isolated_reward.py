"""The base of rewards whose function runs in other processes."""

from __future__ import annotations

import math
import pickle
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakValueDictionary

from pyro_llm.errors import OptionError, RewardFunctionError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.composition.derived import check_probability
from pyro_llm.rewards.counts import check_count
from pyro_llm.rewards.isolation.pool import WorkerPool
from pyro_llm.rewards.isolation.worker_process import Reply
from pyro_llm.rewards.log_odds import from_probability
from pyro_llm.rewards.reward_model import TextReward, distinct_texts, not_a_probability
from pyro_llm.run_scope import claim, current_cost

_POOLS: WeakValueDictionary[Any, WorkerPool] = WeakValueDictionary()  # equal rewards share their processes


@dataclass(frozen=True, kw_only=True)
class IsolatedReward(TextReward):
    """A reward whose function is stopped when it takes too long, and whose crashes are its own.

    A process is no sandbox: the function may do all that the user may.

    Args:
        timeout: seconds for a text; None for no limit.
        on_failure: probability of a text on which the function runs out of time or its process ends; None: an error.
        workers: processes, each with one text at a time.

    Raises:
        OptionError: an option is out of its range.
        RewardFunctionError: when it scores: out of time, or a process that ended; it names the text.
    """

    timeout: float | None = 10.0
    on_failure: float | None = None
    workers: int = 1

    def __post_init__(self) -> None:
        if self.timeout is not None and not 0 < self.timeout < math.inf:
            raise OptionError(f"timeout={self.timeout!r}: give a positive number of seconds, or None for no limit.")
        if self.on_failure is not None:
            check_probability("on_failure", self.on_failure)
        check_count("workers", self.workers)

    @abstractmethod
    def make(self) -> Callable[[], Callable[[str], Any]]:
        """What makes the function in another process; everything it needs is sent with it."""

    def items(self, state: TextState) -> list[Any]:
        """The texts since the prompt."""
        return distinct_texts(state)

    def score(self, items: Sequence[str]) -> list[float]:
        """Log-odds of each text."""
        claim(reward_calls=len(items))
        replies = self._pool().map(items, self._is_fatal)
        current_cost().reward_calls += len(replies)
        return [self._log_odds(text, reply) for text, reply in zip(items, replies, strict=False)]

    def _is_fatal(self, reply: Reply) -> bool:
        return reply.kind in ("raised", "nonsense") or (reply.kind != "returned" and self.on_failure is None)

    def _log_odds(self, text: str, reply: Reply) -> float:
        if reply.kind == "returned" and isinstance(reply.value, float) and 0 <= reply.value <= 1:
            return from_probability(reply.value)
        if reply.kind in ("returned", "nonsense"):
            raise not_a_probability(self, reply.detail or repr(reply.value), text)
        if reply.kind == "raised":
            raise self._raised(text, reply)
        if self.on_failure is not None:
            return from_probability(self.on_failure)
        raise RewardFunctionError(
            f"The function of {self!r} failed on the text {text!r}: {reply.detail}. Allow more time, or give "
            "on_failure, the probability of such texts."
        )

    def _raised(self, text: str, reply: Reply) -> Exception:
        """The exception of the function, as if it had been raised here."""
        if not isinstance(reply.value, bytes):
            return RewardFunctionError(f"The function of {self!r} failed on the text {text!r}:\n{reply.detail}")
        error: Exception = pickle.loads(reply.value)
        error.add_note(f"Raised in another process, by the function of {self!r} for the text {text!r}:\n{reply.detail}")
        return error

    def _pool(self) -> WorkerPool:
        pool: WorkerPool | None = self.__dict__.get("_own_pool")
        if pool is None:
            pool = _POOLS.get(self)
            if pool is None:
                pool = WorkerPool(self.make(), self.timeout, self.workers)
                _POOLS[replace(self)] = pool  # a copy, which does not hold the pool
            self.__dict__["_own_pool"] = pool
        return pool

    def __getstate__(self) -> dict[str, Any]:
        """Without the processes."""
        return {name: value for name, value in self.__dict__.items() if name != "_own_pool"}
