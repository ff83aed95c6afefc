"""The files that commands write: checked before the work begins, told of when they are there."""

from __future__ import annotations

from pathlib import Path

from pyro_llm.cli.console import errors
from pyro_llm.errors import OutputPathError
from pyro_llm.files import check_writable

FIGURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")


def check_outputs(
    *others: Path | None, posterior: Path | None = None, plot: Path | None = None, report: Path | None = None
) -> None:
    """Check the paths that a command was given; None is none.

    Raises:
        OutputPathError: a name has not the ending of what goes into it, or cannot be written to.
    """
    if posterior is not None and posterior.suffix != ".nc":
        raise OutputPathError(
            f"Cannot save the posterior as {str(posterior)!r}: it is netCDF, the name must end in .nc."
        )
    if plot is not None and plot.suffix.lower() not in FIGURES:
        raise OutputPathError(f"Cannot draw into {str(plot)!r}: the name must end in one of {', '.join(FIGURES)}.")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise OutputPathError(f"Cannot write the report as {str(report)!r}: it is a page, the name must end in .html.")
    for path in (*others, posterior, plot, report):
        if path is not None:
            check_writable(path)


def tell_written(what: str, path: Path) -> None:
    """Say on standard error that something is there."""
    errors.print(f"{what} written to {path}", style="dim", markup=False, highlight=False)
