"""Markov chains as a picture: where they have been, and how often each site moves."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from pyro_llm.diagnostics.figure import GREY, INK, bare, plot_label
from pyro_llm.infer.posterior import Posterior

MAX_SITES = 24


def plot_chains(posterior: Posterior, trace: Axes, updates: Axes, run: int = 0) -> None:
    """The log joint density of the draws, and the share of draws that renew each site.

    Args:
        posterior: of Markov chains.
        trace: where to draw the log density, a line per chain.
        updates: where to draw the update rates, a bar per site and a dot per chain.
        run: the chain to set off from the others.
    """
    bare(trace)
    for chain, lp in enumerate(posterior.lp.numpy()):
        set_off = chain == run
        trace.plot(lp, color=INK if set_off else GREY, linewidth=1.2 if set_off else 0.7, zorder=3 if set_off else 2)
    trace.set(xlabel="draw", ylabel="log density")
    trace.set_title("Trace", loc="left", fontsize="medium", color=INK)

    bare(updates)
    rates = list(posterior.update_rates().items())[:MAX_SITES]
    positions = np.arange(len(rates))
    updates.barh(positions, [float(rate.mean()) for _, rate in rates], color=GREY, height=0.6)
    for position, (_, rate) in zip(positions, rates, strict=True):
        updates.plot(rate.numpy(), np.full(len(rate), position), "o", color=INK, markersize=3)
    updates.set_yticks(positions, [plot_label(name) for name, _ in rates], parse_math=False)
    updates.set_ylim(len(rates) - 0.4, -0.6)
    updates.set_xlim(0, 1)
    updates.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    updates.set_xlabel("draws that renew the site")
    updates.set_title("Update rates", loc="left", fontsize="medium", color=INK)
