"""Confidence intervals by resampling problems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import bootstrap

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval.

    Attributes:
        value: the estimate.
        low: the lower end.
        high: the upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def mean_interval(
    values: Sequence[float] | NDArray[np.float64], lowest: float, highest: float, level: float = 0.95, seed: int = 0
) -> Estimate:
    """The mean over problems of a bounded quantity, with its percentile bootstrap interval.

    Of a difference of two algorithms on the same problems it is the paired interval. Where all problems have the same
    value, resampling them tells nothing, and the interval would have no width. There it reaches as far as the mean may
    be if all n problems came out so with probability (1 - level) / 2, each other problem being at the bound: with h =
    1 - ((1 - level) / 2)^(1/n) from c - h (c - lowest) to c + h (highest - c). For n right answers of n that is
    Clopper and Pearson's (1934) interval.

    Args:
        values: one for each problem.
        lowest: bound of a value.
        highest: the other one.
        level: of confidence.
        seed: of the resampling.

    Raises:
        ValueError: there are no values.

    Example:
        >>> print(mean_interval([1.0] * 10, 0.0, 1.0))
        1.000 [0.692, 1.000]
    """
    sample = np.asarray(values, dtype=np.float64)
    if not len(sample):
        raise ValueError("there are no values to take the mean of")
    mean = float(sample.mean())
    if np.ptp(sample) == 0:
        h = 1 - ((1 - level) / 2) ** (1 / len(sample))
        return Estimate(mean, mean - h * (mean - lowest), mean + h * (highest - mean))
    found = bootstrap(
        (sample,), np.mean, n_resamples=RESAMPLES, confidence_level=level, method="percentile",
        vectorized=True, rng=np.random.default_rng(seed),
    )  # fmt: skip
    return Estimate(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def resampled_means(values: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = 0) -> NDArray[np.float64]:
    """Means over bootstrap samples of the problems, the same sample for all columns.

    Args:
        values: a row for each problem, `[n, K]`.
        resamples: how many samples are drawn, B.
        seed: of the draws; equal seeds give the same samples.

    Returns:
        `[B, K]`.
    """
    n = len(values)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts @ values / n
