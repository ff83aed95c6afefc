"""Log-weights of particles: float64, shape `[R, N]` for R runs of N particles, minus infinity for the dead."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pyro_llm.errors import NonFiniteWeightError


def log_mean_exp(log_weights: Tensor, dim: int = -1) -> Tensor:
    """Log of the mean weight, in float64: a run's estimate of its evidence. `[R, N]` -> `[R]`.

    >>> log_mean_exp(torch.tensor([1.0, 3.0]).log()).exp()
    tensor(2.0000, dtype=torch.float64)
    """
    log_weights = log_weights.double()
    peak = log_weights.amax(dim)
    total = peak - torch.log_softmax(log_weights, dim).amax(dim)  # `torch.logsumexp` in two thirds of its time
    return torch.where(peak.isinf(), peak, total) - math.log(log_weights.shape[dim])


def normalise(log_weights: Tensor) -> Tensor:
    """Log-weights whose weights sum to 1 in each run, float64; all `-inf` where all are dead. `[R, N]` -> `[R, N]`."""
    normalised, dead = torch.log_softmax(log_weights.double(), -1), all_dead(log_weights)
    return normalised.masked_fill(dead.unsqueeze(-1), -torch.inf) if bool(dead.any()) else normalised


def effective_sample_size(log_weights: Tensor) -> Tensor:
    r"""Kish's effective sample size $(\sum w)^2 / \sum w^2$, between 1 and N; 0 where all are dead. `[R, N]` -> `[R]`.

    Computed from normalised weights, so that no scale of them overflows. Kong, Liu & Wong (1994), "Sequential
    imputations and Bayesian missing data problems".

    >>> effective_sample_size(torch.tensor([-torch.inf, -1000.0, -1000.0]))
    tensor(2., dtype=torch.float64)
    """
    weights = torch.softmax(log_weights.double(), -1)  # NaN where all are dead
    return weights.square().sum(-1).reciprocal().masked_fill(all_dead(log_weights), 0.0)


def all_dead(log_weights: Tensor) -> Tensor:
    """Runs in which every particle has weight zero. `[R, N]` -> bool `[R]`."""
    return log_weights.amax(-1) == -torch.inf


def check_log_factor(where: str, what: str, log_factor: Tensor) -> None:
    """Raise NonFiniteWeightError if a log-factor is NaN or plus infinity."""
    bad = torch.isnan(log_factor) | (log_factor == torch.inf)
    if bool(bad.any()):
        count, example = int(bad.sum()), float(log_factor[bad][0])
        raise NonFiniteWeightError(
            f"At {where}, the {what} is {example} for {count} of {log_factor.numel()} "
            "particles. A factor must be a finite number or -inf (impossible): look at the parameters of this "
            "site's distribution, or at the reward that gives them."
        )
