"""The command `python -m benchmarks.runtime`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from benchmarks.runtime.comparisons import COMPARISONS
from benchmarks.runtime.machine import machine_facts
from benchmarks.runtime.page import PAGE, write_page
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.results import Comparison, results_file, save
from benchmarks.runtime.table import terminal_table

app = typer.Typer(add_completion=False)


@app.command()
def main(
    names: Annotated[list[str] | None, typer.Argument(help=f"Which: {', '.join(COMPARISONS)}; all by default.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="How often each contender is timed.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny sizes, only to see that it runs.")] = False,
    device: Annotated[str, typer.Option(help="Where the models are, cpu or cuda.")] = "cpu",
    out: Annotated[Path | None, typer.Option(help="The results; by default benchmarks/results, --quick none.")] = None,
    page: Annotated[bool, typer.Option("--page", help="Measure nothing, write the page from the results.")] = False,
) -> None:
    """Compare the runtime with its peers, side by side, and write the results and the page of the documentation."""
    console = Console(stderr=True)
    if page:
        write_page()
        console.print(f"Wrote {PAGE}.")
        return
    chosen = names or list(COMPARISONS)
    if unknown := set(chosen) - set(COMPARISONS):
        raise typer.BadParameter(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(COMPARISONS)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        console.print("No CUDA device was found: nothing was measured.")
        return

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[what]}"))
    found: dict[str, Comparison] = {}
    with Progress(*columns, console=console) as progress:
        for name in chosen:
            if missing := COMPARISONS[name].missing():
                progress.console.print(f"Left out {name}: {', '.join(missing)} is not installed (make bench-peers).")
                continue
            task = progress.add_task(name, total=None, what="")
            plan = (Plan.quick if quick else Plan.full)(device, repeats, partial(_show, progress, task))
            found[name] = replace(COMPARISONS[name].compare(plan), machine=machine_facts(device))
            progress.update(task, total=1, completed=1, what="")
            if out is not None or not quick:
                save(out or results_file(device), {name: found[name]})
    Console().print(terminal_table(found))
    if out is None and not quick:
        write_page()
        console.print(f"Wrote {results_file(device)} and {PAGE}.")


def _show(progress: Progress, task: TaskID, what: str) -> None:
    progress.update(task, what=what)


if __name__ == "__main__":
    app()
