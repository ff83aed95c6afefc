"""What the particles of each step had drawn as text, before resampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_llm.handlers.record import Site
from pyro_llm.handlers.structures import ParticleAxis


def step_tokens(
    sites: Sequence[Site], num_steps: int, axis: ParticleAxis
) -> tuple[list[Tensor], Callable[[list[int]], str]] | None:
    """Tokens by step, each int64 `[R, N, L]`, and what decodes them; None if there is no text, or several a particle.

    Between two steps nothing is resampled once a value has been drawn, so that a value's slots are the step's.
    """
    texts = [site for site in sites if site.decode is not None and site.drawn is not None and site.per_particle]
    if not texts or any(site.drawn.dim() - (site.event_dim or 0) != 1 for site in texts):
        return None
    decode = texts[0].decode
    assert decode is not None
    shape = axis.num_runs, axis.num_particles
    nothing = torch.empty(*shape, 0, dtype=torch.long)
    steps: list[Tensor] = []
    waiting: list[Tensor] = []
    for site in sites:
        if site in texts:
            waiting.append(site.drawn.detach().cpu().reshape(*shape, -1))
        if site.kind == "observed" or site.step is not None:
            steps.append(torch.cat([nothing, *waiting], -1))
            waiting = []
    return (steps, decode) if len(steps) == num_steps else None
