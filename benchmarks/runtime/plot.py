"""The plot of growth, from the results."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import matplotlib

from benchmarks.runtime.growth import WORDS
from benchmarks.runtime.results import Comparison

IMAGE = Path(__file__).parents[2] / "docs" / "images" / "growth.svg"


def plot_growth(comparison: Comparison, path: Path = IMAGE) -> None:
    """Wall time over each size on logarithmic scales, with the range over repeats and a line of linear growth."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(9, 3), layout="constrained")
    FigureCanvasSVG(drawn)
    for axes, (name, words), found in zip(drawn.subplots(1, 3), WORDS.items(), comparison.figures, strict=True):
        sizes, sweeps = comparison.details[name]["sizes"], comparison.details[name]["seconds"]
        columns = [*zip(*sweeps, strict=True)]
        middle = [median(times) for times in columns]
        axes.fill_between(sizes, [min(times) for times in columns], [max(times) for times in columns], alpha=0.3)
        axes.loglog(sizes, middle, "o-", label=f"measured, exponent {found.median:.2f}")
        if bare := comparison.details[name].get("bare_seconds"):
            axes.loglog(sizes, [median(times) for times in zip(*bare, strict=True)], "s:", label="bare loop")
        linear = [middle[-1] * size / sizes[-1] for size in sizes]
        axes.loglog(sizes, linear, "k--", linewidth=0.8, label="linear")
        axes.set_xticks(sizes, [f"{size:g}" for size in sizes], fontsize=7)
        axes.minorticks_off()
        axes.set_xlabel(words)
        axes.set_title(", ".join(comparison.details[name]["fixed"]), fontsize=8)
        axes.legend(fontsize=7)
    drawn.axes[0].set_ylabel("seconds")
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "growth", "svg.fonttype": "none"}):
        drawn.savefig(path, metadata={"Date": None, "Creator": None})
