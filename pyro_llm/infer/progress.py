"""Showing a run while it works, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pyro_llm.ops.steps import StepReport

ProgressOption = bool | Callable[[StepReport], None] | None
EachProgressOption = bool | Callable[[int, StepReport], None] | None


@contextmanager
def progress_callback(
    option: ProgressOption, title: str, num_particles: int
) -> Iterator[Callable[[StepReport], None] | None]:
    """What an algorithm is to call after each step: a callback of the user, a status line, or nothing.

    The status line ends with the block, also when the block is interrupted.
    """
    if callable(option):
        yield option
        return
    if not (sys.stderr.isatty() if option is None else option):
        yield None
        return
    # Site names are shown as they are, whatever brackets they have.
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{title}: starting")

        def show(report: StepReport) -> None:
            ess = report.ess.mean().item()
            weights = "" if ess != ess else f"ESS {ess:.1f} of {num_particles}, "  # a search has none
            progress.update(
                task,
                description=f"{title}: step {report.step} ({report.name}), {weights}"
                f"resampled {report.resamplings} times",
            )

        yield show


class EachProgress:
    """What several runs show while they work.

    Args:
        on_step: called after each step of each run, if at all.
        on_done: called when a run has ended, if at all.
    """

    def __init__(
        self, on_step: Callable[[int, StepReport], None] | None = None, on_done: Callable[[], None] | None = None
    ) -> None:
        self._on_step, self._on_done = on_step, on_done

    def steps_of(self, index: int) -> ProgressOption:
        """The option `progress` of the run of one problem."""
        return False if self._on_step is None else partial(self._on_step, index)

    def done(self) -> None:
        """Note that one more run has ended."""
        if self._on_done is not None:
            self._on_done()


@contextmanager
def progress_of_each(option: EachProgressOption, title: str, total: int | None) -> Iterator[EachProgress]:
    """As `progress_callback`, for several runs: `total` of them, if that is known."""
    if callable(option) or not (sys.stderr.isatty() if option is None else option):
        yield EachProgress(option if callable(option) else None)
        return
    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{title}: starting")
        ended = count(1)

        def show() -> None:
            of = "" if total is None else f" of {total}"
            progress.update(task, description=f"{title}: {next(ended)}{of} runs done")

        yield EachProgress(on_done=show)
