"""Where the command line writes: results to standard output, all else to standard error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from typer import Exit

from pyro_llm.errors import BudgetWarning, DeadRunWarning

output = Console()
errors = Console(stderr=True)

_TOLD = DeadRunWarning, BudgetWarning


@contextmanager
def warnings_told() -> Iterator[None]:
    """Say in a line on standard error that a run has died, or has spent its budget; others are left to Python."""
    with warnings.catch_warnings():
        shown_by_python = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **options: Any) -> None:
            if not issubclass(category, _TOLD):
                shown_by_python(message, category, *where, **options)
                return
            errors.print("[bold yellow]Warning:[/]", end=" ")
            errors.print(str(message), style="yellow", markup=False, highlight=False, soft_wrap=True)

        for category in _TOLD:
            warnings.simplefilter("always", category)
        warnings.showwarning = show
        yield


def show_version(asked: bool) -> None:
    """Show the version and end, if it was asked for."""
    if asked:
        from importlib.metadata import version

        output.print(f"pyro-llm {version('pyro-llm')}", highlight=False)
        raise Exit
