"""The program `pyro-llm` and its commands. What they need is imported when they run, so that `--help` comes at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pyro_llm.cli.console import errors, show_version
from pyro_llm.cli.reward_commands import calibrate, models, review
from pyro_llm.cli.solve_command import report, solve
from pyro_llm.cli.study_commands import bench, bench_check, bench_report
from pyro_llm.errors import PyroLLMError

BAD_INPUT, INTERRUPTED = 2, 130


class Commands(TyperGroup):
    """Commands whose expected errors end in one message and an exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except PyroLLMError as error:
            errors.print("[bold red]Error:[/]", end=" ")
            errors.print(str(error), style="red", markup=False, highlight=False, soft_wrap=True)
            raise typer.Exit(BAD_INPUT) from error
        except KeyboardInterrupt as interrupt:
            errors.print("[yellow]Interrupted.[/]")
            raise typer.Exit(INTERRUPTED) from interrupt


app = typer.Typer(
    name="pyro-llm",
    cls=Commands,
    help="Language models as Pyro distributions: answers as posteriors.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
)


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Language models as Pyro distributions: answers as posteriors."""


app.command()(solve)
app.command()(report)
app.command()(calibrate)
app.command()(review)
app.command()(models)
app.command()(bench)
app.command()(bench_report)
app.command()(bench_check)


def _interrupt_again(ignored: Any) -> None:
    """Python drops a KeyboardInterrupt that falls into a destructor or the callback of a weak reference: once more."""
    if issubclass(ignored.exc_type, KeyboardInterrupt):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(ignored)


def main() -> None:
    """Entry point of the console script."""
    sys.unraisablehook = _interrupt_again
    app()
