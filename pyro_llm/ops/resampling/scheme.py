"""What a resampling scheme is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Resampled:
    """The population after a resampling, for R runs of M particles.

    Attributes:
        ancestors: the slot before from which each slot after descends. Int64 `[R, M]`.
        log_weights: log of the weights that the offspring carry, whose mean in a run is one: all zero for schemes that
            leave equal weights. Float64 `[R, M]`.
    """

    ancestors: Tensor
    log_weights: Tensor

    @classmethod
    def equally_weighted(cls, ancestors: Tensor) -> Resampled:
        """Offspring that all weigh the same."""
        return cls(ancestors, torch.zeros(ancestors.shape, dtype=torch.float64, device=ancestors.device))


@dataclass(frozen=True)
class ResamplingScheme:
    """A deterministic function of the weights and of uniform random numbers, which a call draws.

    Attributes:
        apply: `(log_weights [R, N], M, uniforms [R, K]) -> Resampled`. Log-weights need not be normalised; at least one
            must be finite in each run. Uniforms are independent, in [0, 1).
        num_uniforms: `(N, M) -> K`.
    """

    apply: Callable[[Tensor, int, Tensor], Resampled]
    num_uniforms: Callable[[int, int], int]

    def __call__(self, log_weights: Tensor, num_offspring: int, generator: Generator | None = None) -> Resampled:
        """Resample `num_offspring` particles in each run, with uniforms of its own. `[R, N]` -> `[R, M]`."""
        num_runs, num_particles = log_weights.shape
        num_uniforms = self.num_uniforms(num_particles, num_offspring)
        uniforms = torch.rand(num_runs, num_uniforms, dtype=torch.float64, generator=generator)
        return self.apply(log_weights, num_offspring, uniforms.to(log_weights.device))
