"""The time of runs that are made together, divided among them."""

from __future__ import annotations

import time
from collections.abc import Callable


class SharedTime:
    """A clock whose every second is shared equally by the runs in progress, so that the shares add up to it.

    Args:
        now: tells the time.

    Example:
        >>> times = iter([0.0, 1.0, 3.0, 4.0])
        >>> clock = SharedTime(lambda: next(times))
        >>> clock.begin("a"); clock.begin("b")
        >>> clock.end("a"), clock.end("b")
        (2.0, 2.0)
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._shares: dict[object, float] = {}
        self._last = 0.0

    def begin(self, run: object) -> None:
        """Note that a run has begun."""
        self._pass()
        self._shares[run] = 0.0

    def end(self, run: object) -> float:
        """Note that a run has ended; its share."""
        self._pass()
        return self._shares.pop(run)

    def resume(self) -> None:
        """Pass over the time since the last call: nobody has worked."""
        self._last = self._now()

    def _pass(self) -> None:
        before, self._last = self._last, self._now()
        for run in self._shares:
            self._shares[run] += (self._last - before) / len(self._shares)
