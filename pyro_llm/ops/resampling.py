"""Resampling schemes: from the weights of N particles to the ancestors of M.

A scheme is unbiased if particle n has M * W_n offspring on average; each here is. Chopin & Papaspiliopoulos, "An
Introduction to Sequential Monte Carlo", chapter 9.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from pyro_llm.errors import OptionError
from pyro_llm.ops.weights import normalise


def ancestors_of_uniforms(log_weights: Tensor, uniforms: Tensor) -> Tensor:
    """The inverse of the weights' distribution function at `uniforms`; never a particle of weight zero.

    Args:
        log_weights: need not be normalised; at least one finite in each run. Shape `[R, N]`.
        uniforms: in [0, 1]. Shape `[R, M]`.

    Returns:
        Slots in `0 .. N - 1`. Int64, shape `[R, M]`.
    """
    weights = normalise(log_weights).exp()
    cumulative = weights.cumsum(-1)
    cumulative = cumulative / cumulative[:, -1:]  # rounding must leave no gap below 1
    slots = torch.searchsorted(cumulative, uniforms.double(), right=True)
    # A uniform of 1, which rounding can make, lies beyond the last particle; the last may have weight zero.
    slots_by_weight = torch.arange(weights.shape[-1], device=weights.device)
    last = torch.where(weights > 0, slots_by_weight, 0).amax(-1, keepdim=True)
    return torch.minimum(slots, last)


def systematic(log_weights: Tensor, num_offspring: int, generator: Generator | None = None) -> Tensor:
    """Systematic resampling: one uniform per run, shifted by 1/M; ancestors come sorted. `[R, N]` -> `[R, M]`.

    A particle of weight W has floor(M W) or ceil(M W) offspring. Carpenter, Clifford & Fearnhead (1999).

    >>> systematic(torch.tensor([[0.5, 0.0, 0.5]]).log(), 4)
    tensor([[0, 0, 2, 2]])
    """
    uniform = torch.rand(log_weights.shape[0], 1, dtype=torch.float64, generator=generator)
    strata = (torch.arange(num_offspring, dtype=torch.float64) + uniform) / num_offspring
    return ancestors_of_uniforms(log_weights, strata.to(log_weights.device))


def multinomial(log_weights: Tensor, num_offspring: int, generator: Generator | None = None) -> Tensor:
    """Multinomial resampling: ancestors drawn independently, in no order. `[R, N]` -> `[R, M]`."""
    uniforms = torch.rand(log_weights.shape[0], num_offspring, dtype=torch.float64, generator=generator)
    return ancestors_of_uniforms(log_weights, uniforms.to(log_weights.device))


ResamplingScheme = Callable[[Tensor, int, Generator | None], Tensor]

RESAMPLING_SCHEMES: dict[str, ResamplingScheme] = {"systematic": systematic, "multinomial": multinomial}


def resampling_scheme(name: str) -> ResamplingScheme:
    """The scheme of that name: a function `(log_weights [R, N], M, generator) -> ancestors [R, M]`.

    Raises:
        OptionError: there is no such scheme.
    """
    if name not in RESAMPLING_SCHEMES:
        known = ", ".join(map(repr, RESAMPLING_SCHEMES))
        raise OptionError(f"There is no resampling scheme {name!r}; choose one of {known}.")
    return RESAMPLING_SCHEMES[name]
