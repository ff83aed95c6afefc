"""Showing a study while it runs, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pyro_llm.study.rows import Row
from pyro_llm.study.work import Task

StudyProgress = bool | Callable[[Row], None] | None


class RowProgress:
    """A bar that moves with each row, by as much as the row is of the whole work.

    Args:
        option: whether it is shown; None: if standard error is a terminal. Or what is called with each row instead.
        tasks: the work.
        title: shown before it.
    """

    def __init__(self, option: StudyProgress, tasks: Sequence[Task], title: str) -> None:
        self._weights = {task.cell.key(problem): task.cell.weight for task in tasks for problem in task.problems}
        self._done = self._failed = 0
        self._tell = option if callable(option) else None
        self._title = title
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
        self._bar.update(self._task, description=self._description(), advance=self._weights[row.key])

    def _description(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._title}: {self._done} of {len(self._weights)} rows{failed}"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
