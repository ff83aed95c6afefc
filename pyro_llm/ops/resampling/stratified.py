"""Stratified resampling."""

from __future__ import annotations

from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_uniforms, strata
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme


def stratified(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    """A uniform in each of M equal intervals; ancestors come sorted. `[R, N]`, uniforms `[R, M]` -> `[R, M]`.

    Never more variable than multinomial resampling; offspring differ from M W by less than 2. Kitagawa (1996), "Monte
    Carlo filter and smoother for non-Gaussian nonlinear state space models".

    >>> import torch
    >>> stratified(torch.tensor([[0.5, 0.0, 0.5]]).log(), 3, torch.tensor([[0.7, 0.4, 0.9]])).ancestors
    tensor([[0, 0, 2]])
    """
    return Resampled.equally_weighted(ancestors_of_uniforms(log_weights, strata(num_offspring, uniforms)))


STRATIFIED = ResamplingScheme(stratified, lambda num_particles, num_offspring: num_offspring)
