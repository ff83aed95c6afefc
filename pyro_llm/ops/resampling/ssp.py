"""Resampling by the Srinivasan sampling process."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.resampling.inversion import ancestors_of_counts, whole_and_fractional
from pyro_llm.ops.resampling.scheme import Resampled, ResamplingScheme


def ssp(log_weights: Tensor, num_offspring: int, uniforms: Tensor) -> Resampled:
    """Round the expected offspring up or down by matches of two. `[R, N]`, uniforms `[R, N - 1]` -> `[R, M]`.

    A match moves as much from one remainder to the other as makes one of them 0 or 1, in the direction that a uniform
    decides so that both keep their means. What is left of the other one enters the next match. So a particle of weight
    W has floor(M W) or ceil(M W) offspring, as in systematic resampling; but here they are negatively associated, which
    makes the scheme consistent for particles in any order, and never more variable than multinomial resampling. Gerber,
    Chopin & Whiteley (2019), "Negative association, ordering and convergence of resampling methods". The
    matches are those of a knock-out tournament, log2 N rounds of simultaneous ones, as in Srinivasan (2001),
    "Distributions on level-sets with applications to approximation algorithms"; any order that is fixed beforehand
    will do (Brändén & Jonasson, 2012, "Negative dependence in sampling").

    >>> ssp(torch.tensor([[0.5, 0.2, 0.3]]).log(), 4, torch.tensor([[0.3, 0.6]])).ancestors
    tensor([[0, 0, 1, 2]])
    """
    counts, remainder = whole_and_fractional(log_weights, num_offspring)
    num_runs, num_particles = remainder.shape
    slots = torch.arange(num_particles, device=remainder.device).expand(num_runs, num_particles)
    played = 0
    while slots.shape[1] > 1:
        matches = slots.shape[1] // 2
        last_has_a_bye = slice(2 * matches, None)
        left, right = remainder[:, 0 : 2 * matches : 2], remainder[:, 1 : 2 * matches : 2]
        total = left + right
        rounded_up = total >= 1  # one becomes 1 and the other total - 1; else one becomes 0 and the other the total
        left_wins_with = torch.where(
            rounded_up, (1 - right) / (2 - total), left / total.clamp(min=torch.finfo(total.dtype).tiny)
        )
        left_wins = uniforms[:, played : played + matches] < left_wins_with
        left_slots, right_slots = slots[:, 0 : 2 * matches : 2], slots[:, 1 : 2 * matches : 2]
        counts.scatter_add_(1, torch.where(left_wins, left_slots, right_slots), rounded_up.long())
        goes_on = torch.where(left_wins ^ rounded_up, left_slots, right_slots)
        slots = torch.cat([goes_on, slots[:, last_has_a_bye]], 1)
        remainder = torch.cat([torch.where(rounded_up, total - 1, total), remainder[:, last_has_a_bye]], 1)
        played += matches
    counts.scatter_add_(1, slots, remainder.round().long())  # 0 or 1, but for rounding
    return Resampled.equally_weighted(ancestors_of_counts(counts, num_offspring))


SSP = ResamplingScheme(ssp, lambda num_particles, num_offspring: num_particles - 1)
