"""Showing a run while it works, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pyro_llm.ops.steps import StepReport

ProgressOption = bool | Callable[[StepReport], None] | None


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
            progress.update(
                task,
                description=f"{title}: step {report.step} ({report.name}), ESS {ess:.1f} of {num_particles}, "
                f"resampled {report.resamplings} times",
            )

        yield show
