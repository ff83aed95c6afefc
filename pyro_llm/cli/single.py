"""`pyro-llm solve "PROBLEM"`."""

from __future__ import annotations

from pathlib import Path

from pyro_llm.cli.console import output
from pyro_llm.cli.options import SolveOptions
from pyro_llm.cli.outputs import check_outputs, tell_written
from pyro_llm.files import written_whole


def solve_one(problem: str, options: SolveOptions, out: Path | None, plot: Path | None, report: Path | None) -> None:
    """Solve a problem, show its posterior, write what was asked for.

    Raises:
        OutputPathError: an output path cannot be written to; found before the work begins.
    """
    check_outputs(posterior=out, plot=plot, report=report)

    from pyro_llm.cli.report import show_posterior
    from pyro_llm.cli.solver import Solver

    posterior = Solver(options).solve(problem, options.seed)
    show_posterior(output, posterior)
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
