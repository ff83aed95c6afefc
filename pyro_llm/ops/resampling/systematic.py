"""Systematic resampling."""

from __future__ import annotations

from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_uniforms, strata
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme


def systematic(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    """One uniform per run, shifted by 1/M; ancestors come sorted. `[R, N]`, uniforms `[R, 1]` -> `[R, M]`.

    A particle of weight W has floor(M W) or ceil(M W) offspring. Fast and usually the least variable, though it can be
    worse than multinomial resampling for particles in an unlucky order. Carpenter, Clifford & Fearnhead (1999),
    "Improved particle filter for nonlinear problems".

    >>> import torch
    >>> systematic(torch.tensor([[0.5, 0.0, 0.5]]).log(), 4, torch.tensor([[0.3]])).ancestors
    tensor([[0, 0, 2, 2]])
    """
    return Resampled.equally_weighted(ancestors_of_uniforms(log_weights, strata(num_offspring, uniforms)))


SYSTEMATIC = ResamplingScheme(systematic, lambda num_particles, num_offspring: 1)
