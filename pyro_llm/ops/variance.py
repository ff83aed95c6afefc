"""The variance of an evidence estimate from a single run, read off who descends from whom."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.weights import normalise


def relative_variance(log_weights: Tensor, founders: Tensor, num_resamplings: Tensor) -> Tensor:
    r"""Estimates Var(Z-hat) / Z^2 of each run of a particle filter with multinomial resampling.

    With W_i the final weights, E_i the first particle that i descends from and n resamplings,
    $$V = 1 - \left(\frac{N}{N-1}\right)^{n+1} \sum_{E_i \ne E_j} W_i W_j.$$
    $\hat Z^2 V$ is unbiased for Var(Z-hat) if it is fixed beforehand when resampling takes place, and $N V$ is
    consistent for the asymptotic variance. Lee & Whiteley (2018), "Variance estimation in the particle filter". It
    may be negative, and is noisy where few first particles have descendants.

    Args:
        log_weights: final log-weights, `[R, N]`.
        founders: the slot at the first step from which each particle descends. Int64 `[R, N]`.
        num_resamplings: of each run. `[R]`.

    Returns:
        Float64 `[R]`; NaN for a single particle or where all weights are zero.

    Example:
        >>> relative_variance(torch.zeros(1, 4), torch.tensor([[0, 1, 2, 3]]), torch.tensor([0]))
        tensor([0.], dtype=torch.float64)
    """
    weights = normalise(log_weights).exp()
    num_particles = weights.shape[-1]
    by_founder = torch.zeros_like(weights).scatter_add_(-1, founders, weights)
    apart = weights.sum(-1) ** 2 - (by_founder**2).sum(-1)
    if num_particles == 1:
        return torch.full_like(apart, torch.nan)
    inflation = (num_particles / (num_particles - 1)) ** (num_resamplings.double() + 1)
    return torch.where(weights.sum(-1) > 0, 1 - inflation * apart, torch.nan)
