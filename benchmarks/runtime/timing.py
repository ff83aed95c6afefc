"""Timing contenders in alternating pairs, and checking that they did the same work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Work = dict[str, Any]
"""What a contender did, as facts that can be compared; `used_*` ones are reported, not compared."""


class UnequalWorkError(Exception):
    """Contenders did not do the same work, so that their times cannot be compared."""


@dataclass
class Timed:
    """What was timed.

    Attributes:
        seconds: of each repeat, by contender.
        work: what each contender did, by contender.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)
    work: dict[str, Work] = field(default_factory=dict)

    def ratios(self, numerator: str, denominator: str) -> list[float]:
        """Of the times of two contenders, repeat by repeat."""
        return [a / b for a, b in zip(self.seconds[numerator], self.seconds[denominator], strict=True)]

    def equal_work(self) -> Work:
        """The facts that all contenders share."""
        return _compared(next(iter(self.work.values())))

    def used(self) -> dict[str, Work]:
        """The other facts, by contender."""
        return {name: {fact: done[fact] for fact in done.keys() - _compared(done)} for name, done in self.work.items()}


def now(device: str = "cpu") -> float:
    """The time in seconds, once the device has done all that it was given."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()


def alternate(
    contenders: Mapping[str, Callable[[], Work]],
    repeats: int,
    device: str = "cpu",
    warm_up: bool = True,
    tick: Callable[[str], None] = lambda what: None,
) -> Timed:
    """Time contenders in turns, in alternating order: what drifts on the machine then meets all of them alike.

    Args:
        contenders: functions that do the work and say what it was.
        repeats: times that each is timed.
        device: waited for before the clock is read.
        warm_up: whether each runs once before it is timed.
        tick: told what runs.

    Raises:
        UnequalWorkError: they did not do the same work, or not the same each time.
    """
    timed = Timed(seconds={name: [] for name in contenders})
    if warm_up:
        for name, contender in contenders.items():
            tick(f"{name}, warming up")
            timed.work[name] = contender()
    for repeat in range(repeats):
        order = list(contenders)[:: 1 if repeat % 2 == 0 else -1]
        for name in order:
            tick(f"{name}, {repeat + 1} of {repeats}")
            started = now(device)
            work = contenders[name]()
            timed.seconds[name].append(now(device) - started)
            if _compared(timed.work.setdefault(name, work)) != _compared(work):
                raise UnequalWorkError(f"{name} did {work} in repeat {repeat + 1}, and {timed.work[name]} before.")
    check_equal(timed.work)
    return timed


def check_equal(work: Mapping[str, Work]) -> None:
    """Raise UnequalWorkError if contenders did not do the same."""
    first = next(iter(work))
    for name, done in work.items():
        if _compared(done) != _compared(work[first]):
            raise UnequalWorkError(f"{name} did {done}, and {first} {work[first]}.")


def _compared(work: Work) -> Work:
    return {name: fact for name, fact in work.items() if not name.startswith("used_")}
