"""What tells, from the factors and the ancestors of a population, that it has degenerated.

Factors are logarithms, `log_factor[r, s, n]` that of slot n at step s, and ancestors those of `pyro_llm.ops.genealogy`:
`[R, S, N]` for R runs, S steps and N particles.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pyro_llm.ops.genealogy import coalescence_step


class Indifference(NamedTuple):
    """Steps whose factor does not tell particles apart.

    Attributes:
        compared: steps at which there are at least two particles to tell apart. Bool `[R, S]`.
        equal: those of them at which all have the same factor. Bool `[R, S]`.
        certain: those of them at which all have a factor of 1. Bool `[R, S]`.
    """

    compared: Tensor
    equal: Tensor
    certain: Tensor


def indifferent_steps(
    log_factor: Tensor, ancestors: Tensor, tolerance: float = 0.001, certainty: float = 0.01
) -> Indifference:
    """At which steps log-factors are within `tolerance` of each other, or within `certainty` of 0.

    Particles that have ended get no factors any more (a log-factor of 0, which is what a factor of exactly 1 has too).
    They are recognised by having had other factors before and none after, and are left out.

    >>> factors = torch.tensor([[[0.5, 0.5, 0.5], [0.5, 0.5, 1.0], [0.2, 0.9, 1.0]]]).log()
    >>> indifferent_steps(factors, torch.arange(3).expand(1, 3, 3)).equal
    tensor([[ True,  True, False]])
    """
    judged = ~_ended(log_factor, ancestors)
    count = judged.sum(-1)
    high = log_factor.masked_fill(~judged, -torch.inf).amax(-1)
    low = log_factor.masked_fill(~judged, torch.inf).amin(-1)
    compared = (count > 1) & (high > -torch.inf)
    equal = compared & ((high - low) <= tolerance)
    return Indifference(compared, equal, compared & (low >= -certainty) & (high <= certainty))


def _ended(log_factor: Tensor, ancestors: Tensor) -> Tensor:
    """Slots whose lineage had a factor other than 1 before the step, and has none from the step on. `[R, S, N]`."""
    steps = log_factor.shape[1]
    other = log_factor != 0
    before, after = torch.zeros_like(other), torch.zeros_like(other)
    for step in range(1, steps):
        had = before[:, step - 1] | other[:, step - 1]
        before[:, step] = had.gather(-1, ancestors[:, step - 1])
    for step in reversed(range(steps - 1)):
        has = (after[:, step + 1] | other[:, step + 1]).long()
        after[:, step] = torch.zeros_like(has).scatter_add_(-1, ancestors[:, step], has) > 0
    return ~other & before & ~after


def dead_share(log_factor: Tensor, ancestors: Tensor) -> Tensor:
    """The share of particles of weight zero after each step, before any resampling. `[R, S, N]` -> float64 `[R, S]`.

    >>> factors = torch.tensor([[[0.0, 0.5], [1.0, 1.0]]]).log()
    >>> dead_share(factors, torch.tensor([[[1, 1], [0, 1]]]))
    tensor([[0.5000, 0.0000]], dtype=torch.float64)
    """
    dead = log_factor == -torch.inf
    for step in range(1, dead.shape[1]):
        dead[:, step] |= dead[:, step - 1].gather(-1, ancestors[:, step - 1])
    return dead.double().mean(-1)


def resamplings_since_coalescence(ancestors: Tensor, resampled: Tensor) -> Tensor:
    """Within how many resamplings the final particles of a run have come down to one ancestor; -1 if they have not.

    Args:
        ancestors: `[R, S, N]`.
        resampled: whether the run was resampled after the step. Bool `[R, S]`.

    Returns:
        Int64 `[R]`; -1 for a single particle too.

    >>> ancestors = torch.tensor([[[0, 0, 1], [2, 2, 2], [0, 1, 2]]])
    >>> resamplings_since_coalescence(ancestors, torch.tensor([[True, True, False]]))
    tensor([1])
    """
    if ancestors.shape[-1] == 1:
        return torch.full((ancestors.shape[0],), -1)
    last = coalescence_step(ancestors)
    steps = torch.arange(ancestors.shape[1])
    since = (resampled & (steps >= last[:, None])).sum(-1)
    return torch.where(last < 0, -1, since)
