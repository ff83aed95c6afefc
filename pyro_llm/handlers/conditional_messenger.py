"""The particle messenger of conditional SMC: slot 0 of each run repeats a reference."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pyro_llm.errors import ReplayError
from pyro_llm.handlers.messages import kind_of
from pyro_llm.handlers.particle_messenger import ParticleMessenger
from pyro_llm.handlers.reference import Reference
from pyro_llm.ops.conditional import ConditionalPopulation

_ADVICE = (
    "Iterations of particle Gibbs execute the program anew, and it must be the same program each time: which sites "
    "concern a particle may depend on its own values only."
)


class ConditionalMessenger(ParticleMessenger):
    """Puts the reference's value in slot 0 of each run at each new latent site, to be weighed there like any other.

    Slot 0's own draw is thrown away. Where the reference has no value, as its execution ended before (all of its texts
    were finished, say), slot 0 keeps its draw: what no factor depends on may be renewed.

    Args:
        population: the weights, conditional if there is a reference.
        dim: dimension of the particle plate, `-1 - max_plate_nesting`.
        reference: one for each run; None in plain SMC.
    """

    def __init__(self, population: ConditionalPopulation, dim: int, reference: Reference | None) -> None:
        super().__init__(population, dim)
        self.reference = reference
        self._drawing: str | None = None
        self._drawn: Any = None
        self._random: list[str] = []

    @property
    def conditional_population(self) -> ConditionalPopulation:
        """The weights."""
        return cast(ConditionalPopulation, self.population)

    @property
    def reference_slots(self) -> Tensor:
        """Slot 0 of each run among the particles of all runs. Int64 `[R]`."""
        return torch.arange(self.axis.num_runs) * self.axis.num_particles

    def _pyro_sample(self, msg: Any) -> None:
        self._drawing = None
        super()._pyro_sample(msg)
        if self.record.get(msg["name"]) is not None:
            return
        kind = kind_of(msg)
        if kind == "latent" and (not msg["done"] or msg["name"] in self._proposals):
            self._drawing = msg["name"]
        elif (
            kind == "subsample"
            and msg["value"] is None
            and getattr(msg["fn"], "subsample_size", None) not in (None, getattr(msg["fn"], "size", None))
        ):
            raise ReplayError(
                f"The plate {msg['name']!r} draws a subsample, so that each iteration would have another target. Give "
                "the plate all of the data, or a subsample that is fixed."
            )

    def _pyro_post_sample(self, msg: Any) -> None:
        if msg["name"] == self._drawing:
            self._drawn = msg["value"]
            self._random.append(msg["name"])
            if self.reference is not None and msg["name"] in self.reference.values:
                msg["value"] = self._with_reference(msg, self.reference.values[msg["name"]])
        super()._pyro_post_sample(msg)
        self._drawing = self._drawn = None

    def _with_reference(self, msg: Any, value: Tensor) -> Tensor:
        drawn, event_dim = msg["value"], getattr(msg["fn"], "event_dim", None)
        index = self.axis.find(drawn, event_dim)
        if index is None or drawn.shape[index + 1 :] != value.shape[1:]:
            raise ReplayError(
                f"Site {msg['name']!r} has a value of shape {tuple(drawn.shape)} for all particles, which does not fit "
                f"the reference's, of shape {tuple(value.shape)} for all runs. {_ADVICE}"
            )
        slots = self.reference_slots.to(drawn.device)
        return drawn.index_copy(index, slots, value.to(drawn.device).reshape(drawn.shape[:index] + value.shape))

    def _log_prior(self, msg: Any) -> Tensor:
        if msg["name"] != self._drawing:
            return super()._log_prior(msg)
        # A language model knows the log-probability of the very tensor that it drew, and need not run for it again.
        log_prob = super()._log_prior({**msg, "value": self._drawn})
        if self.reference is None or msg["name"] not in self.reference.values:
            return log_prob
        known = self.reference.log_probs[msg["name"]]
        log_prob = log_prob.detach().cpu().double()
        return log_prob.index_copy(0, self.reference_slots, known)

    def _factor_of_scale(self, msg: Any) -> Tensor:
        name, reference = msg["name"], self.reference
        if name != self._drawing or reference is None or name not in reference.values:
            return super()._factor_of_scale(msg)
        if name not in reference.log_factors:  # it was not scaled in the iteration before
            return super()._factor_of_scale(msg)
        log_factor = super()._factor_of_scale({**msg, "value": self._drawn}).detach().cpu().double()
        return log_factor.index_copy(0, self.reference_slots, reference.log_factors[name])

    def finish(self) -> None:
        """Check an execution that has ended normally, and that it was as the references remember it.

        Raises:
            ReplayError: it left out a factor of a reference, or gave it one that it did not have.
        """
        super().finish()
        if self.reference is None or self.conditional_population.ancestor_sampling:
            return  # with another past, a reference may have other factors
        names = [step.name for step in self.population.steps]
        for name, log_factor in zip(names, self.conditional_population.log_factors(), strict=True):
            if name not in self.reference.log_factors and bool(log_factor[:, 0].any()):
                raise ReplayError(
                    f"The reference got a factor at site {name!r}, which it did not meet in the iteration before. "
                    + _ADVICE
                )
        for name, log_factor in self.reference.log_factors.items():
            if name not in names and bool(log_factor.any()):
                raise ReplayError(
                    f"The program did not meet site {name!r}, where the reference had a factor in the iteration "
                    f"before. {_ADVICE}"
                )

    def for_all_particles(self, value: Tensor) -> Tensor:
        """A reference's value for each particle of its run. `[R, ...]` -> `[P, ...]`."""
        return value.repeat_interleave(self.axis.num_particles, 0)

    def by_particle(self, name: str, log_prob: Tensor) -> Tensor:
        """Sum over all dimensions but that of the particles. Float64 `[P]`."""
        return self._by_particle(name, log_prob).detach().cpu().double()

    def take(self, chosen: Tensor) -> Reference:
        """The execution of one particle of each run. `chosen` is int64 `[R]`, slots in the run."""
        runs = torch.arange(self.axis.num_runs)
        values, log_probs = {}, {}
        for name in self._random:
            site = self.record.get(name)
            if site is None or site.log_prob is None:
                continue
            value = self._present_value(site)
            if not site.per_particle or not isinstance(value, Tensor) or self.axis.find(value, site.event_dim) is None:
                raise ReplayError(
                    f"Site {name!r} has one value for all particles, so that a particle cannot keep its own. "
                    "Particle Gibbs needs every latent site to stand in the plate of the particles, and be a tensor."
                )
            values[name] = self.axis.split_runs(value, site.event_dim)[runs, chosen]
            log_prob = self.population.lineage.carry(site.log_prob.detach().cpu().double(), site.met)
            log_probs[name] = log_prob.reshape(self.axis.num_runs, -1)[runs, chosen]
        log_factors = {
            step.name: log_factor[runs, chosen]
            for step, log_factor in zip(self.population.steps, self.conditional_population.log_factors(), strict=True)
        }
        return Reference(values, log_probs, log_factors)
