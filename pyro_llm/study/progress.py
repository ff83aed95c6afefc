"""Showing a study while it runs, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pyro_llm.study.rows import Row
from pyro_llm.study.words import are, counted
from pyro_llm.study.work import Task

SHARE, SECONDS = 0.1, 30.0
"""Of the work, and of time, between lines."""

StudyProgress = bool | Callable[[Row], None] | None


class RowProgress:
    """A bar that moves with each row, by as much as the row is of the whole work; or lines, where it cannot move.

    Args:
        option: whether it is shown; None: as a bar if standard error is a terminal, else as a line at the start and one
            for each tenth of the work or half minute. Or what is called with each row instead.
        tasks: the work.
        title: shown before it.
        there: how many rows there are already.
        folder: where rows are kept.
    """

    def __init__(
        self, option: StudyProgress, tasks: Sequence[Task], title: str, there: int = 0, folder: str | Path = ""
    ) -> None:
        self._weights = {task.cell.key(problem): task.cell.weight for task in tasks for problem in task.problems}
        self._done = self._failed = 0
        self._tell = option if callable(option) else None
        self._title, self._there, self._folder = title, there, folder
        self._in_lines = option is None and not sys.stderr.isatty()
        self._work = self._told_work = 0.0
        self._told_at = time.monotonic()
        shown = self._tell is None and (sys.stderr.isatty() if option is None else bool(option))
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._bar.add_task(self._description(), total=sum(self._weights.values()))

    def __call__(self, row: Row) -> None:
        """Note a row."""
        self._done += 1
        self._failed += row.error is not None
        if self._tell is not None:
            self._tell(row)
        self._work += (work := self._weights[row.key])
        self._bar.update(self._task, description=self._description(), advance=work)
        if self._in_lines:
            self._tell_at_times()

    def _tell_at_times(self) -> None:
        now, whole = time.monotonic(), sum(self._weights.values())
        is_last = self._done == len(self._weights)
        if is_last or self._work - self._told_work >= SHARE * whole or now - self._told_at >= SECONDS:
            self._told_at, self._told_work = now, self._work
            _line(f"{self._description()}, {self._work / whole:.0%} of the work")

    def _description(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._title}: {self._done} of {len(self._weights)} rows{failed}"

    def __enter__(self) -> Self:
        self._bar.start()
        if self._in_lines:
            there = f"{counted(self._there, 'rows')} {are(self._there)} there"
            _line(f"{self._title}: {counted(len(self._weights), 'rows')} to do, {there}, in {self._folder}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
