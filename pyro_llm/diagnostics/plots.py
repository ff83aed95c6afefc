"""The figure of a posterior: its answers, its effective sample size by step, its ancestry."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pyro_llm.answers import answer
from pyro_llm.diagnostics.ancestry import check_run, plot_ancestry
from pyro_llm.diagnostics.chains import plot_chains
from pyro_llm.diagnostics.display import no_error_bars, shows_answers, title
from pyro_llm.diagnostics.figure import (
    FAINT,
    GREY,
    INK,
    MIN_PROBABILITY,
    answer_colours,
    axes_or_new,
    bare,
    new_figure,
    plot_label,
    say,
)
from pyro_llm.diagnostics.search_plots import plot_factors, plot_tally
from pyro_llm.errors import NoTextError
from pyro_llm.infer.posterior import Posterior

MAX_ANSWERS = 8


def plot(posterior: Posterior, run: int = 0) -> Figure:
    """Answers on the left (if each particle is a text), ESS by step above the ancestry of one run on the right.

    Of a search, what its decision goes by is on the left, and the factors by step take the place of ESS. Of Markov
    chains, the trace of the log joint density and the update rate of each site are on the right.

    Args:
        posterior: what to show.
        run: the run whose ancestry is drawn.

    Raises:
        OptionError: `run` is no integer.
        IndexError: there is no such run.

    Returns:
        A figure that belongs to no backend: `figure.savefig(path)`, or the value of a notebook's cell.
    """
    check_run(posterior, run)
    with_answers = shows_answers(posterior)
    figure = new_figure(13 if with_answers else 9, 7)
    mosaic: Any = [["answers", "ess"], ["answers", "ancestry"]] if with_answers else [["ess"], ["ancestry"]]
    axes = figure.subplot_mosaic(mosaic, width_ratios=[2, 3] if with_answers else None, height_ratios=[2, 5])
    if posterior.chains is not None and not posterior.has_populations:
        if with_answers:
            plot_answers(posterior, axes["answers"])
        plot_chains(posterior, axes["ess"], axes["ancestry"], run=run)
        figure.suptitle(title(posterior), x=0.01, ha="left", color=INK, parse_math=False)
        return figure
    axes["ess"].sharex(axes["ancestry"])
    if with_answers:
        plot_answers(posterior, axes["answers"])
    (plot_factors if posterior.is_search else plot_ess)(posterior, axes["ess"], run=run)
    plot_ancestry(posterior, axes["ancestry"], run=run)
    axes["ess"].set_xlabel("")
    axes["ess"].tick_params(labelbottom=False)
    evidence = "" if posterior.is_search else f", log-evidence {posterior.pooled_log_evidence()}"
    figure.suptitle(f"{title(posterior)}{evidence}", x=0.01, ha="left", color=INK, parse_math=False)
    return figure


def plot_ess(posterior: Posterior, ax: Axes | None = None, run: int | None = None) -> Axes:
    """Effective sample size by step, a line per run; filled marks where it was resampled, a dashed threshold.

    Args:
        posterior: what to show.
        ax: where to draw, a new figure by default.
        run: a run to set off from the others.

    Raises:
        NoWeightsError: the posterior is that of a search.
    """
    posterior.log_weights  # noqa: B018 - raises if there are none
    ax = axes_or_new(ax, 7, 3)
    bare(ax)
    stats = posterior.stats
    ax.set(ylabel="ESS", xlabel="step", ylim=(0, posterior.num_particles * 1.06))
    ax.set_title("Effective sample size", loc="left", fontsize="medium", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(16, integer=True))
    if not stats.num_steps:
        say(ax, "no observed sites")
        return ax
    steps = np.arange(stats.num_steps)
    for index, (ess, resampled) in enumerate(zip(stats.ess, stats.resampled, strict=True)):
        set_off = run in (None, index)
        style: dict[str, Any] = {
            "color": INK if set_off else GREY,
            "linewidth": 1.6 if set_off else 0.9,
            "zorder": 3 if set_off else 2,
        }
        name = f"run {index}" if run == index else "runs" if run is None else "other runs"
        ax.plot(steps, ess, marker="o", markersize=4.5, markerfacecolor="white", label=name, **style)
        ax.plot(steps[resampled], ess[resampled], "o", markersize=4.5, label="resampled", **style | {"linewidth": 0})
    threshold = posterior.settings.get("ess_threshold")
    if isinstance(threshold, int | float) and 0 < threshold <= 1:
        ax.axhline(threshold * posterior.num_particles, color=GREY, linestyle="--", linewidth=1, label="threshold")
    entries = {name: handle for handle, name in reversed(list(zip(*ax.get_legend_handles_labels(), strict=True)))}
    last = ["other runs", "resampled", "threshold"]
    names = sorted(entries, key=lambda name: last.index(name) if name in last else -1)
    ax.legend(
        [entries[name] for name in names], names, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(names),
        frameon=False, fontsize="small", borderpad=0.2,
    )  # fmt: skip
    return ax


def plot_answers(
    posterior: Posterior,
    ax: Axes | None = None,
    fn: Callable[[Any], Hashable] = answer,
    max_answers: int = MAX_ANSWERS,
) -> Axes:
    """The most probable answers as bars, with 95 % intervals by Student's t over runs; the others in one bar.

    Where one run holds nearly all the evidence there are no error bars, and the axis says so. Of a search, see
    `plot_tally`.

    Args:
        posterior: its particles must be texts.
        ax: where to draw, a new figure by default.
        fn: from a text (a tuple of them, where plates give a particle several) to what is shown.
        max_answers: the most bars that are drawn, that of the other answers not counted.

    Raises:
        NoTextError: the model returned no texts, or several for each particle and `fn` is for one.
    """
    if not posterior.written.single and fn is answer:
        raise NoTextError("Each particle has several texts: give `fn`, a function of their tuple, to say what to show.")
    if posterior.is_search:
        return plot_tally(posterior, ax, fn, max_answers)
    ax = axes_or_new(ax, 5, 4)
    bare(ax)
    full = posterior.marginal(fn)
    shown = full.most_probable(max_answers, MIN_PROBABILITY)
    bars = [(plot_label(value), full[value], full.interval(value)) for value in shown]
    colours = answer_colours(full)
    fills = [colours.get(value, FAINT) for value in shown]
    if others := len(full) - len(shown):
        either = posterior.marginal(lambda text: fn(text) in shown)
        bars.append((f"{others} other{'s' if others > 1 else ''}", either[False], either.interval(False)))
        fills.append(FAINT)
    labels, probabilities, intervals = zip(*bars, strict=True)
    highest = [probability if ends is None else ends[1] for _, probability, ends in bars]
    positions = np.arange(len(bars))
    ax.barh(positions, probabilities, color=fills, height=0.7)
    note = no_error_bars(posterior)
    if with_intervals := note is None and None not in intervals:
        reach = np.abs(np.transpose(intervals) - np.array(probabilities))
        ax.errorbar(probabilities, positions, xerr=reach, fmt="none", ecolor=INK, elinewidth=1.3, capsize=3)
    for position, probability, end in zip(positions, probabilities, highest, strict=True):
        ax.annotate(
            f"{probability:.1%}", (end, position), (5, 0), textcoords="offset points", va="center",
            color=INK, fontsize="small",
        )  # fmt: skip
    ax.set_yticks(positions, labels, parse_math=False)
    ax.set_ylim(max(len(bars), 6) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, max(highest) * 1.15)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("posterior probability" + (", 95 % intervals over runs" if with_intervals else ""))
    if note is not None:
        ax.set_xlabel(f"posterior probability\n({note})".replace(": ", ":\n"))
    ax.set_title("Answers", loc="left", fontsize="medium", color=INK)
    return ax
