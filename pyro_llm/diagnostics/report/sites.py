"""Sites that are real numbers, summarised for the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pyro_llm.infer.posterior import Posterior

MAX_SITES = 60
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class SiteSummary:
    """Mean, standard deviation and quantiles of a site's posterior, pooled over runs."""

    name: str
    mean: float
    standard_deviation: float
    low: float
    median: float
    high: float


def site_summaries(posterior: Posterior) -> list[SiteSummary]:
    """Of the first sites that are one real number a particle, in the order in which the program met them."""
    weights = posterior.pooled_log_weights.exp().flatten().numpy()
    summaries: list[SiteSummary | None] = []
    for name, value in posterior.samples.items():
        if value.dtype.is_floating_point and value.ndim == 2 and len(summaries) < MAX_SITES:
            summaries.append(_summary(name, value, weights))
    return [summary for summary in summaries if summary is not None]


def _summary(name: str, value: torch.Tensor, weights: np.ndarray) -> SiteSummary | None:
    values = value.detach().double().cpu().flatten().numpy()
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return None
    values, share = values[known], weights[known] / weights[known].sum()
    mean = float(values @ share)
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(share[order])
    places = np.searchsorted(cumulative, QUANTILES).clip(max=len(values) - 1)
    low, median, high = values[order][places].tolist()
    return SiteSummary(name, mean, float(((values - mean) ** 2 @ share) ** 0.5), low, median, high)
