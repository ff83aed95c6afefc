"""The reliability diagram."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pyro_llm.diagnostics.calibration import Binning, expected_calibration_error, reliability_bins
from pyro_llm.diagnostics.figure import COLOURS, FAINT, GREY, INK, axes_or_new, bare
from pyro_llm.errors import OptionError


def plot_reliability(
    probabilities: ArrayLike | Mapping[str, ArrayLike],
    labels: ArrayLike,
    ax: Axes | None = None,
    num_bins: int = 10,
    binning: Binning = "equal-width",
) -> Axes:
    """The share of accepted labels against the probability that was given, by bins (Murphy & Winkler 1977).

    Of calibrated probabilities it is the diagonal; below it, on the right, they are too confident. Marks are as large
    as their bins are full, and bars are 95 percent intervals (Wilson's) of the share.

    Args:
        probabilities: of acceptance, `[n]`; or several by name, before and after a calibration, say.
        labels: 0 or 1, `[n]`.
        ax: where to draw, a new figure by default.
        num_bins: how many bins.
        binning: `"equal-width"` or `"equal-mass"`.

    Raises:
        CalibrationError: no probabilities and labels of one length.
        OptionError: a mapping without entries, or with more than six; no such binning.
    """
    curves = probabilities if isinstance(probabilities, Mapping) else {"": probabilities}
    if not 0 < len(curves) <= len(COLOURS):
        raise OptionError(f"{len(curves)} sets of probabilities: give 1 to {len(COLOURS)}.")
    ax = axes_or_new(ax, 5, 5)
    bare(ax)
    ax.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, zorder=1)
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        bins = reliability_bins(values, labels, num_bins, binning)
        error = expected_calibration_error(values, labels, num_bins, binning)
        low, high = _wilson(bins.observed, bins.counts)
        ax.vlines(bins.predicted, low, high, color=colour, alpha=0.4, linewidth=1.5, zorder=2)
        label = f"{name}: error {error:.3f}" if name else f"error {error:.3f}"
        ax.plot(bins.predicted, bins.observed, color=colour, linewidth=1.2, zorder=3, label=label)
        ax.scatter(bins.predicted, bins.observed, 10 + 90 * bins.counts / bins.counts.max(), color=colour, zorder=4)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability of acceptance", ylabel="share accepted")
    ax.set_aspect("equal")
    ax.grid(color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_title("Reliability", loc="left", fontsize="medium", color=INK)
    ax.legend(loc="upper left", frameon=False, fontsize="small")
    return ax


def _wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = 1.959963984540054
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return centre - half, centre + half
