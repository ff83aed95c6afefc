"""Equally weighted draws from a weighted posterior."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_llm.infer.options import check_integer
from pyro_llm.infer.particle_values import gather_particles
from pyro_llm.infer.stats import StepStats

if TYPE_CHECKING:
    from pyro_llm.infer.posterior import Posterior


def resampled(posterior: Posterior, num_particles: int, generator: torch.Generator | None) -> Posterior:
    """Draws from the posterior pooled over runs, as one run of equal weights; see `Posterior.resample`."""
    num_particles = check_integer("num_particles", num_particles, at_least=1)
    shape = posterior.num_runs, posterior.num_particles
    weights = posterior.pooled_log_weights.exp().flatten()
    drawn = torch.multinomial(weights, num_particles, replacement=True, generator=generator)

    def gather(tensor: Tensor) -> Tensor:
        return tensor.flatten(0, 1)[drawn.to(tensor.device)].unsqueeze(0)

    return type(posterior)(
        samples={name: gather(value) for name, value in posterior.samples.items()},
        returns=gather_particles(posterior.returns, gather, shape),
        log_weights=torch.full((1, num_particles), -math.log(num_particles)),
        log_evidence=torch.tensor([posterior.pooled_log_evidence().estimate]),
        log_prior=gather(posterior.log_prior),
        log_likelihood=gather(posterior.log_likelihood),
        stats=StepStats.empty(1, num_particles),
        observed=posterior.observed,
        cost=posterior.cost,
        settings={**posterior.settings, "resampled_from": {"runs": shape[0], "particles": shape[1]}},
        written=posterior.written.take(drawn.numpy()) if posterior.has_texts else None,
        not_saved=posterior.not_saved,
        missing={name: gather(lacks) for name, lacks in posterior.missing.items()},
    )
