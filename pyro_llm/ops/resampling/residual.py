"""Residual resampling."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_counts, ancestors_of_uniforms, whole_and_fractional
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme


def residual(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    """floor(M W) offspring for sure, the rest multinomial by the remainders. `[R, N]`, uniforms `[R, M]` -> `[R, M]`.

    Never more variable than multinomial resampling. Only as many of the uniforms are used as offspring are left to
    draw. Liu & Chen (1998), "Sequential Monte Carlo methods for dynamic systems".

    >>> import torch
    >>> residual(torch.tensor([[0.5, 0.2, 0.3]]).log(), 4, torch.tensor([[0.0, 0.0, 0.9, 0.1]])).ancestors
    tensor([[0, 0, 2, 1]])
    """
    whole, remainder = whole_and_fractional(log_weights, num_offspring)
    certain = ancestors_of_counts(whole, num_offspring)
    # Where nothing is left to draw all remainders may be zero, and what is drawn is not used.
    drawn = ancestors_of_uniforms(torch.where((remainder > 0).any(-1, keepdim=True), remainder, 1.0).log(), uniforms)
    slots = torch.arange(num_offspring, device=log_weights.device)
    return Resampled.equally_weighted(torch.where(slots < whole.sum(-1, keepdim=True), certain, drawn))


RESIDUAL = ResamplingScheme(residual, lambda num_particles, num_offspring: num_offspring)
