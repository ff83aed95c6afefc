"""The selections of beam search and of diverse verifier tree search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.ops.search.selection import Candidates, Selected


@dataclass(frozen=True)
class KeepBest:
    """Keep the N / `beam_width` best of each run, and continue each `beam_width` times.

    Of equal scores the lower slot is better. Where there are fewer that differ, those are continued more often, evenly.

    Attributes:
        beam_width: continuations of each.
        distinct: whether of particles with the same past only one is kept.

    Example:
        >>> candidates = Candidates(torch.tensor([[0.1, 0.4, 0.4, 0.3]]), torch.tensor([[0, 7, 7, 2]]), 1)
        >>> KeepBest(2, distinct=True)(candidates).ancestors
        tensor([[1, 1, 3, 3]])
    """

    beam_width: int
    distinct: bool

    def __call__(self, candidates: Candidates) -> Selected:
        """The slots whose pasts are continued, the best first."""
        num_runs, num_particles = candidates.scores.shape
        num_kept = num_particles // self.beam_width
        order = candidates.scores.argsort(dim=-1, descending=True, stable=True)
        eligible = torch.ones_like(order, dtype=torch.bool)
        if self.distinct:
            eligible = _first_of_each(candidates.identity.gather(-1, order))
        best_first = (~eligible).long().argsort(dim=-1, stable=True)[:, :num_kept]  # places in the order
        kept = order.gather(-1, best_first)
        count = eligible.sum(-1, keepdim=True).clamp(max=num_kept)
        place = torch.arange(num_particles).expand(num_runs, -1) * count // num_particles
        return Selected(kept.gather(-1, place))


@dataclass(frozen=True)
class KeepBestOfSubtrees:
    """Of each `beam_width` neighbouring slots, a subtree, keep the best, and continue it in all of them.

    Attributes:
        beam_width: slots of a subtree.

    Example:
        >>> KeepBestOfSubtrees(2)(Candidates(torch.tensor([[0.1, 0.4, 0.2, 0.1]]), torch.zeros(1, 4), 1)).ancestors
        tensor([[1, 1, 2, 2]])
    """

    beam_width: int

    def __call__(self, candidates: Candidates) -> Selected:
        """The slots whose pasts are continued."""
        scores = candidates.scores.unflatten(-1, (-1, self.beam_width))
        first_slots = torch.arange(scores.shape[1]) * self.beam_width
        best = scores.argmax(-1) + first_slots
        return Selected(best.repeat_interleave(self.beam_width, -1))


def _first_of_each(values: Tensor) -> Tensor:
    """Where a value stands for the first time in its row. `[R, N]` -> bool `[R, N]`."""
    ascending, order = values.sort(dim=-1, stable=True)
    new = torch.ones_like(order, dtype=torch.bool)
    new[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    return torch.zeros_like(new).scatter(-1, order, new)
