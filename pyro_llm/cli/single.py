"""`pyro-llm solve "PROBLEM"`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyro_llm.cli.console import errors, output
from pyro_llm.cli.options import SolveOptions
from pyro_llm.cli.outputs import check_outputs, tell_written
from pyro_llm.errors import RewardError
from pyro_llm.files import written_whole

if TYPE_CHECKING:
    from pyro_llm.infer import Posterior
    from pyro_llm.raters import Votes


def solve_one(problem: str, options: SolveOptions, out: Path | None, plot: Path | None, report: Path | None) -> None:
    """Solve a problem, show its posterior, write what was asked for.

    If a reward fails for good, what the run had is written all the same.

    Raises:
        RewardError: a reward failed.
        OutputPathError: an output path cannot be written to; found before the work begins.
    """
    check_outputs(posterior=out, plot=plot, report=report)

    from pyro_llm.cli.report import show_posterior
    from pyro_llm.cli.solver import Solver

    if options.votes is not None:
        _tell_votes(options.votes.votes, problem)
    solver = Solver(options)
    try:
        posterior = solver.solve(problem, options.seed)
    except RewardError as error:
        if error.posterior is not None:  # what the run had when the reward failed
            _write(solver.labelled(error.posterior, options.seed), out, plot, report)
        raise
    _write(posterior, out, plot, report)  # first: whoever reads what is shown may stop reading
    show_posterior(output, posterior)


def _tell_votes(votes: Votes, problem: str) -> None:
    """How many votes are on a problem, so that a text that differs from the one voted on is noticed."""
    concerned, whole = len(votes.on(problem)), len(votes.on(None))
    told = f"{concerned} of {whole} votes are on this problem"
    if concerned:
        errors.print(told, style="dim", highlight=False)
    else:
        errors.print("[bold yellow]Warning:[/]", end=" ")
        errors.print(
            f"{told}: a vote's problem must be the same text, character by character.",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip


def _write(posterior: Posterior, out: Path | None, plot: Path | None, report: Path | None) -> None:
    """What was asked for."""
    if out is not None:
        posterior.save(out)
        tell_written("Posterior", out)
    if plot is not None:
        with written_whole(plot) as temporary:
            posterior.plot().savefig(temporary, dpi=150)
        tell_written("Figure", plot)
    if report is not None:
        posterior.report(report)
        tell_written("Report", report)
