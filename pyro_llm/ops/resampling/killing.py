"""Resampling by killing."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_uniforms
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme


def killing(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    r"""Each particle survives with probability W / max W, else its slot is drawn anew from all. -> `[R, M]`.

    Expected offspring of n: $W_n / W_* + \sum_j (1 - W_j / W_*) W_n = N W_n$. Survivors stay in their slots, and equal
    weights change nothing; hence its use where factors are weak. Del Moral (2004), "Feynman-Kac
    Formulae"; Chopin & Papaspiliopoulos (2020), chapter 9. For M other than N, slot m stands for the particle
    floor((m + u) N / M), with one uniform u per run: each particle has M / N slots on average, which keeps the scheme
    unbiased.

    Args:
        log_weights: `[R, N]`.
        num_offspring: M.
        uniforms: `[R, 1 + M]`; the first one chooses the particles that slots stand for, if M is not N.

    Example:
        >>> killing(torch.tensor([[0.2, 0.4, 0.4]]).log(), 3, torch.tensor([[0.0, 0.9, 0.3, 0.7]])).ancestors
        tensor([[2, 1, 2]])
    """
    num_particles = log_weights.shape[-1]
    candidates = torch.arange(num_offspring, device=log_weights.device).expand(log_weights.shape[0], -1)
    if num_offspring != num_particles:
        candidates = (
            ((candidates + uniforms[:, :1]) * num_particles / num_offspring).long().clamp(max=num_particles - 1)
        )
    log_weights, uniforms = log_weights.double(), uniforms[:, 1:]
    survival = (log_weights - log_weights.amax(-1, keepdim=True)).exp().gather(-1, candidates)
    survives = uniforms < survival
    # Given that it is above the survival probability, the uniform is uniform above it, and serves again.
    again = ((uniforms - survival) / (1 - survival).clamp(min=torch.finfo(torch.float64).tiny)).clamp(0, 1)
    return Resampled.equally_weighted(torch.where(survives, candidates, ancestors_of_uniforms(log_weights, again)))


KILLING = ResamplingScheme(killing, lambda num_particles, num_offspring: 1 + num_offspring)
