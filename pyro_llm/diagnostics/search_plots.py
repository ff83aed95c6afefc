"""The result of a search as a picture: what its decision goes by, and the factors of each step."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pyro_llm.answers import answer
from pyro_llm.diagnostics.figure import COLOURS, FAINT, GREY, INK, axes_or_new, bare, plot_label, say
from pyro_llm.infer.decision import tally_of_search
from pyro_llm.infer.posterior import Posterior

LABELS = {"highest score": "highest score", "summed score": "sum of scores", "votes": "share of votes"}


def plot_tally(
    posterior: Posterior, ax: Axes | None = None, fn: Callable[[Any], Hashable] = answer, max_answers: int = 8
) -> Axes:
    """What a search's rule gives the best answers, as bars; the one it decides for marked with a star and in bold.

    Args:
        posterior: of a search; its particles must be texts.
        ax: where to draw, a new figure by default.
        fn: from a text to what is shown.
        max_answers: the most bars that are drawn.
    """
    ax = axes_or_new(ax, 5, 4)
    bare(ax)
    assert posterior.searched is not None
    tally = list(tally_of_search(posterior, fn).items())[:max_answers]
    amounts = np.exp(np.minimum([log for _, log in tally], 700.0))
    colours = dict(zip([value for value, _ in tally if value is not None], COLOURS, strict=False))
    positions = np.arange(len(tally))
    ax.barh(positions, amounts, color=[colours.get(value, FAINT) for value, _ in tally], height=0.7)
    for position, amount in zip(positions, amounts, strict=True):
        ax.annotate(
            f"{amount:.3g}", (amount, position), (5, 0), textcoords="offset points", va="center", color=INK,
            fontsize="small",
        )  # fmt: skip
    ax.set_yticks(positions, [plot_label(value) for value, _ in tally], parse_math=False)
    decision = posterior.decision(fn)
    for place, (value, _) in enumerate(tally):
        if value == decision:
            ax.get_yticklabels()[place].set_fontweight("bold")
            ax.plot(
                0.03, place, "*", transform=ax.get_yaxis_transform(), color="white", markeredgecolor=INK,
                markersize=13, linewidth=0, label="decision",
            )  # fmt: skip
            ax.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize="small", labelcolor=INK)
    ax.set_ylim(max(len(tally), 6) - 0.4, -0.6)
    ax.set_xlim(0, (float(amounts.max()) or 1.0) * 1.15)
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel(LABELS[posterior.searched.decides_by])
    ax.set_title("Answers", loc="left", fontsize="medium", color=INK)
    return ax


def plot_factors(posterior: Posterior, ax: Axes | None = None, run: int = 0) -> Axes:
    """The log-factor of each particle at each step of a run, and a line through the best.

    Args:
        posterior: of a search.
        ax: where to draw, a new figure by default.
        run: which.
    """
    ax = axes_or_new(ax, 7, 3)
    bare(ax)
    ax.set(ylabel="log-factor", xlabel="step")
    ax.set_title("Factors by step", loc="left", fontsize="medium", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(16, integer=True))
    factors = posterior.stats.log_factor[run]
    if not factors.size:
        say(ax, "no factors were asked for")
        return ax
    finite = np.where(np.isfinite(factors), factors, np.nan)
    steps = np.arange(len(factors))
    ax.plot(steps, finite, "o", color=GREY, markersize=2.5, alpha=0.5)
    ax.plot(steps, factors.max(-1), color=INK, linewidth=1.6)
    return ax
