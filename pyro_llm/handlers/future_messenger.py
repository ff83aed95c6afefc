"""Scoring a reference's future under other pasts, as ancestor sampling needs it."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.errors import CapabilityError, ReplayError
from pyro_llm.handlers.conditional_messenger import ConditionalMessenger
from pyro_llm.handlers.messages import kind_of, scaled, scored
from pyro_llm.handlers.scales import factor_of_scale, is_scaled, unscaled
from pyro_llm.ops.conditional import temper


class ScoreAgain(BaseException):
    """Leaves the scoring of pasts some of which have turned out to be impossible, and would only cost more."""


class FutureMessenger(Messenger):
    r"""Executes the program with each particle's past and the reference's future, and sums the future's log-density.

    What the particle filter has recorded is the past, and only substituted. What comes after it is the future: latent
    sites get the reference's values and count by their log-probability under the particle's past, observed sites by
    their factor. So the sum is $\log \gamma_T(x_{1:k}^n, x'_{k+1:T}) - \log \gamma_k(x_{1:k}^n)$ of Lindsten, Jordan &
    Schön (2014), "Particle Gibbs with ancestor sampling", for every particle n.

    At a site that the reference does not have, as its execution had ended, a particle may go on only if nothing is left
    for it to choose: its draw has probability one (padding after a finished text), or is masked. A past under which
    the reference's future is impossible, or would not be complete, has log-density minus infinity; its rows then
    follow slot 0, so that they cost nothing more.

    Args:
        particles: the particle filter, as it stands.
        needed: the runs whose references are to be scored; the others follow slot 0. Bool `[R]`.
    """

    def __init__(self, particles: ConditionalMessenger, needed: Tensor) -> None:
        super().__init__()
        if particles.reference is None:
            raise ValueError("There is no reference whose future could be scored.")
        self._particles, self._reference = particles, particles.reference
        axis = particles.axis
        slots, own = torch.arange(axis.size), particles.reference_slots.repeat_interleave(axis.num_particles)
        self._own = own
        self._slots = torch.where(needed.repeat_interleave(axis.num_particles), slots, own)
        self._impossible = torch.zeros(axis.size, dtype=torch.bool)
        self._powers = particles.conditional_population.inverse_temperatures
        self._site = ""

    def __enter__(self) -> FutureMessenger:
        self._slots = torch.where(self._impossible, self._own, self._slots)
        self.log_density = torch.zeros(self._particles.axis.size, dtype=torch.float64)
        self.log_probs: dict[str, Tensor] = {}
        self.log_factors: dict[str, Tensor] = {}  # of scaled latent sites
        self._site = ""
        return super().__enter__()

    @property
    def log_future(self) -> Tensor:
        """The log-density of the reference's future under each particle's past. Float64 `[R, N]`."""
        axis = self._particles.axis
        return self.log_density.masked_fill(self._impossible, -torch.inf).reshape(axis.num_runs, axis.num_particles)

    def _pyro_sample(self, msg: Any) -> None:
        self._site = ""
        name, kind = msg["name"], kind_of(msg)
        site = self._particles.record.get(name)
        if site is not None:
            if kind in ("latent", "subsample"):
                msg["value"], msg["done"] = self._particles.present_value(site, self._slots), True
            return
        if kind != "latent" or msg["done"]:
            return
        self._site = name
        if name in self._reference.values:
            msg["value"] = self._particles.for_all_particles(self._reference.values[name])
            msg["done"] = True
            return
        dead = torch.isneginf(self.log_density)
        if bool((dead & ~self._impossible).any()):
            self._impossible |= dead
            raise ScoreAgain

    def _pyro_post_sample(self, msg: Any) -> None:
        name, kind = msg["name"], kind_of(msg)
        if self._particles.record.get(name) is not None:
            return
        if kind == "observed":
            self._add_factor(self._particles.by_particle(name, scored(msg)))
        elif name == self._site and name in self._reference.values:
            drawn_log_prob = self._log_prob(msg)
            log_prob = self._particles.by_particle(name, drawn_log_prob)
            self.log_density = self.log_density + log_prob
            self.log_probs[name] = self._particles.by_particle(name, scaled(unscaled(msg), drawn_log_prob))
            if is_scaled(msg):
                log_factor = self._particles.by_particle(name, factor_of_scale(msg, drawn_log_prob))
                self.log_factors[name] = log_factor.masked_fill(torch.isneginf(log_prob), 0.0)  # impossible anyway
                self._add_factor(self.log_factors[name])
        elif name == self._site:
            chosen = self._particles.by_particle(name, self._log_prob(msg, counted=True)) != 0
            self._check_reference(name, chosen)
            self.log_density = self.log_density.masked_fill(chosen, -torch.inf)

    def _add_factor(self, log_factor: Tensor) -> None:
        axis = self._particles.axis
        by_run = log_factor.reshape(axis.num_runs, axis.num_particles)
        self.log_density = self.log_density + temper(by_run, self._powers).flatten()

    def _log_prob(self, msg: Any, counted: bool = False) -> Tensor:
        """The law that the value is drawn from, which no mask or scale changes; with them if `counted`."""
        try:
            if counted:
                return scored(msg)
            fn = msg["fn"]
            # A distribution whose `log_prob` is of events that are more than one value says so by this method.
            return getattr(fn, "log_prob_of_draw", fn.log_prob)(msg["value"], *msg["args"], **msg["kwargs"])
        except NotImplementedError as error:
            raise CapabilityError(
                f"Site {msg['name']!r} has a distribution without log-probabilities ({type(msg['fn']).__name__}), "
                "which ancestor sampling needs. Use ancestor_sampling=False."
            ) from error

    def _check_reference(self, name: str, chosen: Tensor) -> None:
        """Raise if the site would concern the reference under its own past: then it cannot tell whom it concerns."""
        if bool((chosen & ~torch.isneginf(self.log_density))[self._particles.reference_slots].any()):
            raise ReplayError(
                f"Ancestor sampling met site {name!r}, at which the reference has no value, as its own execution did "
                "not come to it, and cannot tell which particles it concerns. Mask the site (`poutine.mask`) for "
                "those that it does not concern, let all particles meet it always, or use ancestor_sampling=False."
            )
