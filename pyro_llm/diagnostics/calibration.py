"""How well probabilities agree with outcomes: expected calibration error, Brier score, area under the curve."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from pyro_llm.errors import CalibrationError, OptionError
from pyro_llm.labelled_scores import Floats, labelled_scores

Binning = Literal["equal-width", "equal-mass"]


class ReliabilityBins(NamedTuple):
    """Probabilities and outcomes by bins of the probability; empty bins are left out. All of shape `[bins]`.

    Attributes:
        counts: labels in each bin.
        predicted: mean probability.
        observed: share of accepted labels.
    """

    counts: Floats
    predicted: Floats
    observed: Floats


def reliability_bins(
    probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 10, binning: Binning = "equal-width"
) -> ReliabilityBins:
    """Bin probabilities, by their value or into bins of like counts; equal probabilities are never parted.

    Args:
        probabilities: of acceptance, in [0, 1]. One-dimensional.
        labels: 0 or 1 for each.
        num_bins: how many bins; by equal mass there may be fewer, if probabilities are tied.
        binning: `"equal-width"` or `"equal-mass"`.

    Raises:
        CalibrationError: no probabilities and labels of one length.
        OptionError: there is no such binning, or less than one bin.
    """
    values, outcomes = _checked(probabilities, labels)
    if binning not in get_args(Binning):
        raise OptionError(f"There is no binning {binning!r}; choose one of {', '.join(map(repr, get_args(Binning)))}.")
    if num_bins < 1:
        raise OptionError(f"num_bins={num_bins!r}: give at least 1.")
    if binning == "equal-width":
        edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    else:
        last = -(-np.arange(1, num_bins) * values.size // num_bins) - 1  # of each bin but the highest, in order
        edges = np.unique(np.sort(values)[last])
    # A probability on an edge belongs to the bin below, as in (0, 0.1], (0.1, 0.2], ...
    places = np.searchsorted(edges, values, side="left")
    count = np.bincount(places).astype(float)
    filled = count > 0
    predicted = np.bincount(places, weights=values)[filled] / count[filled]
    observed = np.bincount(places, weights=outcomes)[filled] / count[filled]
    return ReliabilityBins(count[filled], predicted, observed)


def expected_calibration_error(
    probabilities: ArrayLike, labels: ArrayLike, num_bins: int = 10, binning: Binning = "equal-width"
) -> float:
    """The mean distance of bins' mean probability from their share of accepted labels, weighted by their counts.

    As in Naeini, Cooper & Hauskrecht (AAAI 2015), of the probability of acceptance; by equal mass as in Nixon et al.
    ("Measuring Calibration in Deep Learning", 2019). Of few labels it is biased upwards: perfectly calibrated
    probabilities have an expected error of about 0.4 sqrt(bins / labels).

    Args:
        probabilities: of acceptance, in [0, 1]. One-dimensional.
        labels: 0 or 1 for each.
        num_bins: how many bins.
        binning: `"equal-width"` or `"equal-mass"`.

    Raises:
        CalibrationError: no probabilities and labels of one length.
        OptionError: there is no such binning, or less than one bin.

    Example:
        >>> round(expected_calibration_error([0.95, 0.95, 0.95, 0.95, 0.15], [1, 1, 1, 0, 0], num_bins=5), 3)
        0.19
    """
    bins = reliability_bins(probabilities, labels, num_bins, binning)
    return float((bins.counts * np.abs(bins.predicted - bins.observed)).sum() / bins.counts.sum())


def brier_score(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The mean squared distance of probabilities from labels (Brier 1950); lower is better, 0.25 that of always 0.5.

    Raises:
        CalibrationError: no probabilities and labels of one length.

    Example:
        >>> brier_score([0.5, 1.0], [1, 1])
        0.125
    """
    values, outcomes = _checked(probabilities, labels)
    return float(np.mean((values - outcomes) ** 2))


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """The probability that an accepted text has a higher score than a rejected one; ties count one half.

    The area under the receiver operating characteristic, exact: Mann and Whitney's U over all pairs. A calibration
    that rises strictly leaves it as it is.

    Args:
        scores: any numbers, log-odds or probabilities. One-dimensional; may be infinite.
        labels: 0 or 1 for each.

    Raises:
        CalibrationError: no scores and labels of one length, or labels of one class only.

    Example:
        >>> auc([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1])
        0.875
    """
    values, outcomes = labelled_scores(scores, labels)
    accepted, rejected = values[outcomes == 1], np.sort(values[outcomes == 0])
    if not accepted.size or not rejected.size:
        raise CalibrationError("The area under the curve needs labels of both classes, 0 and 1.")
    below, not_above = (np.searchsorted(rejected, accepted, side=side) for side in ("left", "right"))
    return float((below.sum() + not_above.sum()) / (2 * accepted.size * rejected.size))


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    values, outcomes = labelled_scores(probabilities, labels)
    if not ((values >= 0) & (values <= 1)).all():
        raise CalibrationError("A probability is outside [0, 1]; of log-odds take the sigmoid.")
    return values, outcomes
