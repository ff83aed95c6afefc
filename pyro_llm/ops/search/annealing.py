"""The selection of entropic particle filtering: resampling by scores that are annealed while particles are few."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.search.selection import Candidates, Selected
from pyro_llm.ops.weights import all_dead, effective_sample_size, normalise

Annealing = Literal["ess", "entropy", "base"]

BASE_TEMPERATURE = 2.0
"""From which `"base"` comes down."""


def temperature(log_scores: Tensor, progress: float, annealing: Annealing) -> Tensor:
    r"""The temperature at which scores are annealed, where they are. `[R, N]` -> float64 `[R]`.

    With W the scores normalised to sum to 1, N of them, and $\tau$ the progress,

    - `"ess"`: $N / \mathrm{ESS} \cdot (1 - \tau)$, ESS being $1 / \sum W^2$;
    - `"entropy"`: $1 / (h + (1 - h) \tau)$, $h = -\sum W \log W / \log N$;
    - `"base"`: $2 - \tau$;

    and 1 at least.

    Args:
        log_scores: logarithms of the scores.
        progress: the share of the steps that have been taken.
        annealing: which.

    Example:
        >>> temperature(torch.tensor([[0.5, 0.5, 0.0, 0.0]]).log(), 0.25, "ess")
        tensor([1.5000], dtype=torch.float64)
    """
    num_particles = log_scores.shape[-1]
    if annealing == "base":
        value = torch.full(log_scores.shape[:1], BASE_TEMPERATURE - progress, dtype=torch.float64)
    elif annealing == "ess":
        value = num_particles / effective_sample_size(log_scores) * (1 - progress)
    else:
        share = normalise(log_scores)
        entropy = -torch.where(share.isneginf(), 0.0, share.exp() * share).sum(-1) / math.log(num_particles)
        value = 1 / (entropy + (1 - entropy) * progress)
    return value.clamp(min=1.0)


@dataclass(frozen=True)
class AnnealedResampling:
    """Draw ancestors by scores to the power of an inverse temperature; nothing makes up for that power afterwards.

    The temperature is 1 but in the first steps, and there where the effective sample size of the scores is low.

    Attributes:
        max_steps: selections, were there one after each step.
        ess_threshold: the fraction of the particles below which scores are annealed.
        early_phase: the fraction of the steps in which they may be.
        annealing: the rule of the temperature.
        resampling: name of the resampling scheme.
    """

    max_steps: int
    ess_threshold: float
    early_phase: float
    annealing: Annealing
    resampling: str

    def inverse_temperatures(self, log_scores: Tensor, number: int) -> Tensor:
        """The power of the scores in each run, at selection `number`. `[R, N]` -> float64 `[R]`."""
        num_particles, progress = log_scores.shape[-1], number / self.max_steps
        powers = torch.ones(log_scores.shape[:1], dtype=torch.float64)
        if num_particles == 1 or progress >= self.early_phase:
            return powers
        degenerate = effective_sample_size(log_scores) < self.ess_threshold * num_particles
        degenerate = degenerate & ~all_dead(log_scores)
        return torch.where(degenerate, 1 / temperature(log_scores, progress, self.annealing), powers)

    def __call__(self, candidates: Candidates) -> Selected:
        """Ancestors of all slots; runs in which all scores are 0 stay as they are."""
        scores, dead = candidates.scores, all_dead(candidates.scores)
        powers = self.inverse_temperatures(scores, candidates.number)
        log_weights = (scores * powers[:, None]).masked_fill(dead[:, None], 0.0)
        drawn = resampling_scheme(self.resampling)(log_weights, scores.shape[-1]).ancestors
        own = torch.arange(scores.shape[-1]).expand(scores.shape)
        return Selected(torch.where(dead[:, None], own, drawn), powers)
