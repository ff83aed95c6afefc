"""Multinomial resampling."""

from __future__ import annotations

from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_uniforms
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme


def multinomial(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    """Ancestors drawn independently from the weights, in no order. `[R, N]`, uniforms `[R, M]` -> `[R, M]`.

    The noisiest scheme, and the one that theory is about: conditional SMC needs it, and so does the estimate of the
    variance from a single run. Gordon, Salmond & Smith (1993), "Novel approach to nonlinear/non-Gaussian Bayesian state
    estimation".

    >>> import torch
    >>> multinomial(torch.tensor([[0.5, 0.0, 0.5]]).log(), 3, torch.tensor([[0.7, 0.1, 0.9]])).ancestors
    tensor([[2, 0, 2]])
    """
    return Resampled.equally_weighted(ancestors_of_uniforms(log_weights, uniforms))


MULTINOMIAL = ResamplingScheme(multinomial, lambda num_particles, num_offspring: num_offspring)
