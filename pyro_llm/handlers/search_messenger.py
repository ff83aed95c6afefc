"""The particle messenger of searches: it hands on what a score is made of, and may take modes in place of draws."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pyro_llm.handlers.messages import scored
from pyro_llm.handlers.modes import mode_of
from pyro_llm.handlers.particle_messenger import PARTICLE_PLATE, ParticleMessenger
from pyro_llm.ops.search import SearchPopulation
from pyro_llm.run_scope import claim


class SearchMessenger(ParticleMessenger):
    """Tells the population which factors judge which particles, and which latent values they have.

    Args:
        population: the scores.
        dim: dimension of the particle plate, `-1 - max_plate_nesting`.
        judges: whether observed sites are asked for their factors; if not, no reward is ever asked.
        greedy: whether latent sites take their most probable value; their proposals play no part then.
    """

    _weighs_scales = False  # a value is as good as it scores

    def __init__(self, population: SearchPopulation, dim: int, *, judges: bool = True, greedy: bool = False) -> None:
        super().__init__(population, dim)
        self._judges, self._greedy = judges, greedy

    def _resample_or_propose(self, msg: Any) -> None:
        if not self._greedy:
            super()._resample_or_propose(msg)
            return
        claim()  # time may have run out
        msg["value"], msg["done"] = mode_of(msg["fn"], msg["name"]), True

    def _pyro_post_sample(self, msg: Any) -> None:
        is_new = self.record.get(msg["name"]) is None
        super()._pyro_post_sample(msg)
        site = self.record.get(msg["name"])
        if is_new and site is not None and site.kind == "latent":  # none is recorded when the budget is spent
            log_prob = cast(Tensor, site.log_prob).detach().cpu().double()
            cast(SearchPopulation, self.population).note_draw(self._rows(site.value, site.event_dim), log_prob)

    def _fold(self, msg: Any) -> int | None:
        if not self._judges:
            return None
        population = cast(SearchPopulation, self.population)
        log_factor = self._by_particle(msg["name"], scored(msg))
        population.fold_judgement(msg["name"], log_factor, self._judged(msg))
        return len(population.steps) - 1

    def _judged(self, msg: Any) -> Tensor | None:
        """The particles whose factor is not masked. Bool `[P]`, None for all."""
        mask, size = msg["mask"], self.axis.size
        if mask is None or mask is True:
            return None
        if mask is False:
            return torch.zeros(size, dtype=torch.bool)
        per_particle = any(frame.name == PARTICLE_PLATE for frame in msg["cond_indep_stack"])
        shape = torch.broadcast_shapes(mask.shape, msg["fn"].batch_shape)
        mask = mask.expand(shape)
        if per_particle and len(shape) == -self.axis.dim and shape[0] == size:
            return mask.reshape(size, -1).any(-1)
        return mask.any().expand(size)

    def _rows(self, value: Any, event_dim: int | None) -> Tensor:
        """A latent value as a row of numbers for each particle. `[P, K]`."""
        index = self.axis.find(value, event_dim) if isinstance(value, Tensor) else None
        if index is None:
            return torch.empty(self.axis.size, 0, dtype=torch.float64)
        return value.detach().cpu().movedim(index, 0).reshape(self.axis.size, -1)
