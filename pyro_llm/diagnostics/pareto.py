"""The tail of importance weights."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from pyro_llm.diagnostics.arviz import import_arviz

MIN_TAIL = 5
"""Distinct weights in the tail, the least that a generalised Pareto distribution is fitted to."""


def pareto_k(log_weights: ArrayLike) -> float:
    r"""The shape k-hat of the generalised Pareto distribution that fits the largest of importance weights.

    Weights have about 1 / k finite moments. Up to $\min(1 - 1 / \log_{10} S, 0.7)$ for S weights, averages over them
    converge as fast as their effective sample size says; beyond, they rest on few weights, and more particles help
    little. Vehtari, Simpson, Gelman, Yao & Gabry (2024), "Pareto smoothed importance sampling".

    ArviZ fits it (`psislw`, which takes log-weights before version 1 and negated ones from then on).

    Args:
        log_weights: unnormalised, minus infinity for weights of zero. `[S]`.

    Returns:
        k-hat; NaN if the tail, the largest $\min(S / 5, 3 \sqrt S)$ weights, has fewer than 5 distinct ones.

    Example:
        Weights with a tail of shape 0.5, that is of infinite variance:

        >>> import numpy as np
        >>> ranks = (np.arange(10_000) + 0.5) / 10_000
        >>> round(pareto_k(-0.5 * np.log(ranks)), 1)
        0.5
    """
    values = np.array(log_weights, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"log_weights must be of shape [S], not {values.shape}.")
    values = np.maximum(values - values.max(), -700.0) if values.size and np.isfinite(values.max()) else values[:0]
    tail = math.ceil(min(values.size / 5, 3 * math.sqrt(values.size)))
    if np.unique(np.sort(values)[values.size - tail :]).size < MIN_TAIL:
        return math.nan
    arviz = import_arviz()
    if int(arviz.__version__.split(".")[0]) >= 1:
        from arviz_stats.base import array_stats

        return float(array_stats.psislw(-values)[1])
    return float(arviz.psislw(values)[1])


def pareto_k_threshold(num_weights: int, at_most: float = 0.7) -> float:
    """How large k-hat may be for so many weights (Vehtari et al. 2024, Section 3.2.4).

    >>> pareto_k_threshold(100), pareto_k_threshold(10_000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(num_weights), at_most)
