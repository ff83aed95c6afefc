"""`pyro-llm solve "PROBLEM"`."""

from __future__ import annotations

from pathlib import Path

from pyro_llm.cli.console import errors, output
from pyro_llm.cli.options import SolveOptions
from pyro_llm.errors import OutputPathError
from pyro_llm.files import check_writable, written_whole

FIGURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


def solve_one(problem: str, options: SolveOptions, out: Path | None, plot: Path | None) -> None:
    """Solve a problem, show its posterior, write what was asked for.

    Raises:
        OutputPathError: an output path cannot be written to; found before the work begins.
    """
    if out is not None and out.suffix != ".nc":
        raise OutputPathError(f"Cannot save the posterior as {str(out)!r}: it is netCDF, the name must end in .nc.")
    if plot is not None and plot.suffix.lower() not in FIGURES:
        raise OutputPathError(f"Cannot draw into {str(plot)!r}: the name must end in one of {', '.join(FIGURES)}.")
    for path in (out, plot):
        if path is not None:
            check_writable(path)

    from pyro_llm.cli.report import show_posterior
    from pyro_llm.cli.solver import Solver

    posterior = Solver(options).solve(problem, options.seed)
    show_posterior(output, posterior)
    if out is not None:
        posterior.save(out)
        errors.print(f"Posterior written to {out}", style="dim", markup=False, highlight=False)
    if plot is not None:
        with written_whole(plot) as temporary:
            posterior.plot().savefig(temporary, dpi=150)
        errors.print(f"Figure written to {plot}", style="dim", markup=False, highlight=False)
