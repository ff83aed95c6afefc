"""What schemes share: inverting a distribution function, whole and fractional offspring, ancestors of counts."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.weights import normalise

ROUNDING = 2.0**-40
"""Relative: expected offspring this close below an integer are that integer, but for rounding."""


def ancestors_of_uniforms(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """The inverse of the weights' distribution function at `uniforms`; never a particle of weight zero.

    Args:
        log_weights: need not be normalised; at least one finite in each run. Shape `[R, N]`.
        uniforms: in [0, 1]. Shape `[R, M]`.

    Returns:
        Slots in `0 .. N - 1`. Int64, shape `[R, M]`.
    """
    weights = torch.softmax(log_weights.double(), -1)
    cumulative = weights.cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]  # rounding must leave no gap below 1
    slots = torch.searchsorted(cumulative, uniforms.double().contiguous(), right=True)
    if not uniforms.numel() or float(uniforms.amax()) < 1:
        return slots
    # A uniform of 1, which rounding can make, lies beyond the last particle; the last may have weight zero.
    slots_by_weight = torch.arange(weights.shape[-1], device=weights.device)
    last = torch.where(weights > 0, slots_by_weight, 0).amax(-1, keepdim=True)
    return torch.minimum(slots, last)


def strata(num_offspring: int, uniforms: Tensor) -> Tensor:
    """A point in each of M equal intervals of [0, 1], by uniforms `[R, M]`, or one that all share, `[R, 1]`."""
    return (torch.arange(num_offspring, dtype=torch.float64, device=uniforms.device) + uniforms) / num_offspring


def whole_and_fractional(log_weights: Tensor, num_offspring: int) -> tuple[Tensor, Tensor]:
    """The expected numbers of offspring, M * W, as floor and remainder in [0, 1). Int64 and float64 `[R, N]`.

    >>> whole_and_fractional(torch.tensor([[0.6, 0.0, 0.4]], dtype=torch.float64).log(), 5)[0]
    tensor([[3, 0, 2]])
    """
    expected = num_offspring * normalise(log_weights).exp()
    whole = (expected * (1 + ROUNDING)).floor()
    return whole.long(), (expected - whole).clamp(min=0)


def ancestors_of_counts(counts: Tensor, num_offspring: int) -> Tensor:
    """Slots in order, each as often as it has offspring. `[R, N]`, summing to at least M -> `[R, M]`.

    >>> ancestors_of_counts(torch.tensor([[2, 0, 1]]), 3)
    tensor([[0, 0, 2]])
    """
    positions = torch.arange(num_offspring, device=counts.device).expand(counts.shape[0], -1).contiguous()
    return torch.searchsorted(counts.cumsum(-1), positions, right=True).clamp(max=counts.shape[-1] - 1)
