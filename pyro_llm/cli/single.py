"""`pyro-llm solve "PROBLEM"`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pyro_llm.cli.console import output
from pyro_llm.cli.options import SolveOptions
from pyro_llm.cli.outputs import check_outputs, tell_written
from pyro_llm.errors import RewardError
from pyro_llm.files import written_whole

if TYPE_CHECKING:
    from pyro_llm.infer import Posterior


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

    solver = Solver(options)
    try:
        posterior = solver.solve(problem, options.seed)
    except RewardError as error:
        if error.posterior is not None:  # what the run had when the reward failed
            _write(solver.labelled(error.posterior, options.seed), out, plot, report)
        raise
    show_posterior(output, posterior)
    _write(posterior, out, plot, report)


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
