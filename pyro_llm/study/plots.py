"""Accuracy against budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from pyro_llm.diagnostics.figure import COLOURS, INK, axes_or_new, bare, new_figure, say
from pyro_llm.errors import OptionError
from pyro_llm.study.bootstrap import mean_interval
from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.results import Curve, Results

MARKERS = "osD^vPX"
LINES = ("-", "--", ":")
COLUMNS = 3
POINTS_A_LETTER, POINTS_A_LINE = 5, 40
"""Width of a legend's names, and of what stands before them."""


def plot_accuracy(
    results: Results, cost: str = "generations", variant: str | None = None, ax: Axes | None = None
) -> Axes:
    """Accuracy against what a problem cost on average, a line for each algorithm, with intervals over problems.

    Args:
        results: of the study.
        cost: the kind on the axis, see `COST_KINDS`.
        variant: which; the first by default.
        ax: where to draw, a new figure by default.

    Raises:
        OptionError: there is no such kind or variant.
    """
    if cost not in COST_KINDS:
        raise OptionError(f"cost={cost!r}: choose one of {', '.join(COST_KINDS)}.")
    variant = results.variants[0] if variant is None else variant
    if variant not in results.variants:
        raise OptionError(f"variant={variant!r}: choose one of {', '.join(map(repr, results.variants))}.")
    ax = axes_or_new(ax, 6, 4.2)
    bare(ax)
    curves = [curve for curve in results.curves.values() if curve.variant == variant]
    several_kinds = len({curve.kind for curve in curves}) > 1
    styles = zip(cycle(COLOURS), cycle(MARKERS), (line for line in cycle(LINES) for _ in COLOURS))
    drawn = False
    for curve, (colour, marker, line) in zip(curves, styles, strict=False):
        label = f"{curve.algorithm}, by {curve.kind}" if several_kinds else curve.algorithm
        drawn |= _draw(ax, curve, cost, label, colour, marker, line)
    ax.set(xlabel=f"{COST_KINDS[cost]} a problem", ylabel="right answers")
    ax.set_title(variant, loc="left", fontsize="medium", color=INK, parse_math=False)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if not drawn:
        say(ax, f"{COST_KINDS[cost]} were not counted")
        return ax
    ax.set_xscale("log", base=2 if cost == "generations" else 10)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:,.10g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    names = ax.get_legend_handles_labels()[1]
    legend = ax.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=_columns(ax, names),
        frameon=False, fontsize="small", labelcolor=INK,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    return ax


def _columns(ax: Axes, names: Sequence[str]) -> int:
    """Two columns of a legend below the axes where they have room for them, else one."""
    spec = ax.get_subplotspec()
    figure = ax.get_figure(root=True)
    assert figure is not None
    points = 72 * figure.get_size_inches()[0] / (1 if spec is None else spec.get_gridspec().ncols)
    return 2 if points > 2 * (POINTS_A_LETTER * max(map(len, names)) + POINTS_A_LINE) else 1


def _draw(ax: Axes, curve: Curve, cost: str, label: str, colour: str, marker: str, line: str) -> bool:
    spent = curve.mean_cost(cost)
    known = ~np.isnan(spent) & (spent > 0)
    if not known.any():
        return False
    intervals = [mean_interval(column, 0.0, 1.0) for column in curve.right.T]
    ends = np.array([[one.low, one.high] for one in intervals])[known]
    accuracy = curve.accuracy[known]
    label = f" {label}" if label.startswith("_") else label  # matplotlib leaves such labels out of legends
    ax.errorbar(
        spent[known], accuracy, yerr=np.abs(ends.T - accuracy), color=colour, marker=marker, linestyle=line,
        markersize=5, linewidth=1.5, elinewidth=0.9, capsize=2, label=label,
    )  # fmt: skip
    return True


def plot_study(results: Results, cost: str = "generations") -> Figure:
    """Accuracy against one kind of budget, side by side for all variants."""
    variants = results.variants
    columns = min(COLUMNS, len(variants))
    rows = -(-len(variants) // columns)
    figure = new_figure(max(6.5, 4.6 * columns), 4.4 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True).flatten()
    for variant, ax in zip(variants, grid, strict=False):
        plot_accuracy(results, cost, variant, ax)
    for ax in grid[len(variants) :]:
        ax.set_axis_off()
    return figure
