"""The table of figures, in a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from benchmarks.runtime.results import Comparison, Figure

HEADINGS = ("measure", "target", "measured", "range", "met")


def rows(comparisons: Mapping[str, Comparison]) -> list[tuple[str, str, str, str, str]]:
    """The cells of the table, by `HEADINGS`."""
    return [_row(figure) for comparison in comparisons.values() for figure in comparison.figures]


def terminal_table(comparisons: Mapping[str, Comparison]) -> Table:
    """For a terminal."""
    table = Table(*HEADINGS)
    for row in rows(comparisons):
        table.add_row(*row)
    return table


def markdown_table(comparisons: Mapping[str, Comparison]) -> str:
    """For the documentation."""
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows(comparisons)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(figure: Figure) -> tuple[str, str, str, str, str]:
    def number(value: float) -> str:
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"

    spread = "" if len(figure.values) == 1 else f"{number(min(figure.values))} to {number(max(figure.values))}"
    return (
        figure.measure,
        f"{figure.bound} {number(figure.target)}{figure.unit}",
        f"{number(figure.median)}{figure.unit}",
        spread,
        "yes" if figure.met else "no",
    )
