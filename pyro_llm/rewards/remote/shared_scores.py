"""The scores that the threads of one remote reward share: those that are known, and those being asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pyro_llm.rewards.kept_scores import KeptScores
from pyro_llm.rewards.remote.endpoint import Item


class Awaited:
    """An item that some thread asks the server for.

    Attributes:
        ended: set when that thread is done with it.
        score: what the server gave; None if it gave nothing.
        failure: why it gave nothing for good; None if the thread gave up before that, so that others may ask.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.score: float | None = None
        self.failure: Exception | None = None


class Shares(NamedTuple):
    """What becomes of the items that a thread needs."""

    known: dict[Item, float]
    own: list[Item]
    """To be asked for by this thread."""
    awaited: dict[Item, Awaited]
    """Asked for by others."""


class SharedScores:
    """Scores by item, each of which one thread at a time asks for.

    Args:
        max_kept: the most scores that are kept; those that were not asked for the longest go first.
    """

    def __init__(self, max_kept: int) -> None:
        self._kept: KeptScores[Item] = KeptScores(max_kept)
        self._awaited: dict[Item, Awaited] = {}
        self._lock = threading.Lock()

    def share_out(self, items: Iterable[Item]) -> Shares:
        """Of distinct items, which are known, which others ask for, and which this thread is to ask for from now on.

        It must `settle`, `fail` or `give_up` each of the last.
        """
        items = list(items)
        with self._lock:
            shares = Shares(self._kept.known(items), [], {})
            for item in items:
                if item in shares.known:
                    continue
                if item in self._awaited:
                    shares.awaited[item] = self._awaited[item]
                else:
                    self._awaited[item] = Awaited()
                    shares.own.append(item)
        return shares

    def settle(self, scores: Mapping[Item, float]) -> None:
        """Keep scores that came, and give them to who waits for them."""
        with self._lock:
            self._kept.keep(scores)
            for item, score in scores.items():
                awaited = self._awaited.pop(item)
                awaited.score = score
                awaited.ended.set()

    def fail(self, items: Iterable[Item], failure: Exception) -> None:
        """Tell who waits for items that the server gave nothing for them, for good."""
        with self._lock:
            for item in items:
                awaited = self._awaited.pop(item)
                awaited.failure = failure
                awaited.ended.set()

    def give_up(self, items: Iterable[Item]) -> None:
        """Leave items that came to nothing to who waits for them."""
        with self._lock:
            for item in items:
                self._awaited.pop(item).ended.set()

    def __getstate__(self) -> dict[str, Any]:
        """Scores alone: nobody waits in another process."""
        with self._lock:
            return {"_kept": self._kept.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_kept"].size)  # type: ignore[misc]
        self._kept = state["_kept"]
