"""Who descends from whom: ancestors by step, `[R, S, N]`, for R runs, S steps and N particles.

`ancestors[r, s, n]` is the slot at step s, before any resampling, from which slot n after step s descends.
"""

from __future__ import annotations

import torch
from torch import Tensor


def trace_lineages(ancestors: Tensor) -> Tensor:
    """The slot at each step from which each particle of the final population descends. `[R, S, N]` -> `[R, S, N]`.

    >>> trace_lineages(torch.tensor([[[0, 0, 1], [2, 2, 1]]]))
    tensor([[[1, 1, 0],
             [2, 2, 1]]])
    """
    lineages = torch.empty_like(ancestors)
    num_runs, num_steps, num_particles = ancestors.shape
    slots = torch.arange(num_particles, device=ancestors.device).expand(num_runs, num_particles)
    for step in reversed(range(num_steps)):
        slots = ancestors[:, step].gather(-1, slots)
        lineages[:, step] = slots
    return lineages


def unique_ancestors(ancestors: Tensor) -> Tensor:
    """How many particles of each step have a descendant in the final population. `[R, S, N]` -> int64 `[R, S]`.

    >>> unique_ancestors(torch.tensor([[[0, 0, 1], [2, 2, 1]]]))
    tensor([[2, 2]])
    """
    lineages = trace_lineages(ancestors)
    has_descendant = torch.zeros(ancestors.shape, dtype=torch.bool, device=ancestors.device)
    return has_descendant.scatter_(-1, lineages, True).sum(-1)


def roots(ancestors: Tensor) -> Tensor:
    """The slot at the first step from which each final particle descends. `[R, S, N]` -> `[R, N]`."""
    num_runs, num_steps, num_particles = ancestors.shape
    if num_steps == 0:
        return torch.arange(num_particles, device=ancestors.device).expand(num_runs, num_particles)
    return trace_lineages(ancestors)[:, 0]


def coalescence_step(ancestors: Tensor) -> Tensor:
    """The last step at which all final particles of a run share one ancestor, -1 if at none. `[R, S, N]` -> `[R]`.

    Everything up to and including that step is the history of a single particle.
    """
    shared = unique_ancestors(ancestors) == 1
    steps = torch.arange(ancestors.shape[1], device=ancestors.device)
    never = torch.full((ancestors.shape[0], 1), -1, device=ancestors.device)
    return torch.cat([never, torch.where(shared, steps, -1)], 1).amax(-1)
