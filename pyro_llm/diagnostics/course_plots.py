"""How a run came to its evidence, and what it spent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pyro_llm.diagnostics.figure import GREY, INK, axes_or_new, bare, plot_label, say
from pyro_llm.infer.posterior import Posterior


def plot_evidence(posterior: Posterior, ax: Axes | None = None, run: int | None = None) -> Axes:
    """The log-evidence of the factors so far by step, a line per run; the steeper, the less a factor was expected.

    Args:
        posterior: what to show.
        ax: where to draw, a new figure by default.
        run: a run to set off from the others.

    Raises:
        NoWeightsError: it is the result of a search.
    """
    posterior.log_evidence  # noqa: B018 - raises
    ax = axes_or_new(ax, 7, 3)
    bare(ax)
    ax.set(ylabel="log-evidence", xlabel="step")
    ax.set_title("Evidence by step", loc="left", fontsize="medium", color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(16, integer=True))
    if not posterior.stats.num_steps:
        say(ax, "no observed sites")
        return ax
    for index, increments in enumerate(posterior.stats.log_evidence_increment):
        set_off = run in (None, index)
        style: dict[str, Any] = {"color": INK if set_off else GREY, "linewidth": 1.6 if set_off else 0.9}
        ax.plot(np.arange(len(increments)), np.cumsum(increments), marker="o", markersize=3, **style)
    return ax


def plot_cost(posteriors: Posterior | Mapping[str, Posterior], ax: Axes | None = None) -> Axes:
    """What runs spent: tokens through the language model, of them sampled, and tokens through rewards, side by side.

    Args:
        posteriors: one, or several by name.
        ax: where to draw, a new figure by default.
    """
    shown = {"": posteriors} if isinstance(posteriors, Posterior) else dict(posteriors)
    ax = axes_or_new(ax, 7, 1.2 + 0.9 * len(shown))
    bare(ax)
    kinds = {
        "tokens forwarded": ("lm_tokens_forwarded", "#0072B2"),
        "tokens sampled": ("lm_tokens_sampled", "#56B4E9"),
        "reward tokens": ("reward_tokens", "#D55E00"),
        "reward calls": ("reward_calls", "#E69F00"),
    }
    positions = np.arange(len(shown))
    for number, (label, (name, colour)) in enumerate(kinds.items()):
        values = [getattr(posterior.cost, name) for posterior in shown.values()]
        places = positions + (number - 1.5) * 0.2
        ax.barh(places, values, height=0.18, color=colour, label=label)
        for place, value in zip(places, values, strict=True):
            ax.annotate(
                f"{value:,}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize="x-small"
            )
    labels = [f"{plot_label(name)}\n{posterior.cost.seconds:.1f} s" for name, posterior in shown.items()]
    ax.set_yticks(positions, labels, parse_math=False)
    ax.set_ylim(len(shown) - 0.4, -0.6)
    ax.margins(x=0.15)
    ax.legend(loc="best", frameon=False, fontsize="small")
    ax.set_title("Cost", loc="left", fontsize="medium", color=INK)
    return ax
