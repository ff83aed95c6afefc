"""The handler that turns an execution of a Pyro program into a step of a particle filter."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.handlers.endless import MOST_SITES_AFTER_STOP, Endless
from pyro_llm.handlers.loop_record import LoopRecords
from pyro_llm.handlers.messages import (
    check_plates,
    compare_with_record,
    kind_of,
    plates_of,
    scaled,
    scored,
    shared_parameters,
)
from pyro_llm.handlers.proposals import proposal_of, weigh_draw
from pyro_llm.handlers.randomness import LIBRARIES, RandomnessWatch, libraries_drawn_from
from pyro_llm.handlers.record import Site, SiteRecord
from pyro_llm.handlers.scales import factor_of_scale, is_scaled, log_prob_of_draw, unscaled
from pyro_llm.handlers.step_tokens import step_tokens
from pyro_llm.handlers.structures import ParticleAxis
from pyro_llm.handlers.twist import evaluated
from pyro_llm.ops.conditional import FutureNeeded
from pyro_llm.ops.population import Population
from pyro_llm.run_scope import claim

PARTICLE_PLATE = "_pyro_llm_particles"
COMPARED_REPLAYS = 2

LookAhead = Callable[[str, Any], Tensor]


class Restart(BaseException):
    """Stops a program that is to be replayed. No `Exception`: a program's `except Exception` must not swallow it."""


class ParticleMessenger(Messenger):
    """Keeps each latent site's batched value, and folds each newly met observed site into the weights of a population.

    It stands outside the plate of the particles and sees each site after that plate and all handlers of the program.
    When the program asks for a new latent value and some run's effective sample size has become too low, the messenger
    resamples the population and raises `Restart`. Execute the program again inside the same messenger: it gets the
    values of its particles' ancestors, and nothing that has been scored is scored again. Factors in a row are folded
    together, and the weights at the end of the program are never thrown away.

    Args:
        population: the weights.
        dim: dimension of the particle plate, `-1 - max_plate_nesting`.
        look_ahead: log of the first-stage weight of each particle, from the name and the distribution of the latent
            site that comes next.
    """

    _weighs_scales = True  # whether a scaled latent site is a factor

    def __init__(self, population: Population, dim: int, look_ahead: LookAhead | None = None) -> None:
        super().__init__()
        self.population = population
        self.look_ahead = look_ahead
        self.axis = ParticleAxis(population.num_runs, population.num_particles, dim)
        self.record = SiteRecord(self._carries_no_factor)
        self.restarts = -1
        self._loops = LoopRecords(self)
        self._sites_after_stop: int | None = None
        self._watch = RandomnessWatch()
        self._calls_back = population.calls_back or look_ahead is not None  # functions of the user's, which may draw
        self._proposals: dict[str, Any] = {}  # that the values of sites which are being met were drawn from

    def __enter__(self) -> ParticleMessenger:
        self.restarts += 1
        self.record.begin()
        self._loops.begin()
        if self.restarts == COMPARED_REPLAYS + 1:
            for site in self.record.sites:
                site.fn = None
        self._watch.begin()
        return super().__enter__()

    def __exit__(self, exc_type: Any, exc_value: Any, traceback: Any) -> None:
        super().__exit__(exc_type, exc_value, traceback)
        if exc_type in (Restart, FutureNeeded):
            self._watch.end("a restart")

    def finish(self) -> None:
        """Check an execution that has ended normally."""
        self._watch.end("the end of the program")
        self.record.end()
        self._loops.end()

    def stop(self) -> None:
        """Go on without recording anything: what the program does beyond what is recorded has no weight any more.

        So one more execution brings a program to its end whose run has spent its budget, for the sake of what it
        returns. Texts write nothing then (`pyro_llm.distributions`), other latent values are drawn and forgotten, no
        factor is asked for, and nothing is resampled.
        """
        self._sites_after_stop = 0

    @property
    def generation(self) -> int:
        """The number of resamplings so far."""
        return self.population.lineage.generation

    def carry(self, value: Any, generation: int) -> Any:
        """A structure recorded in an earlier generation, for the present particles."""
        return self.axis.gather(value, self.population.lineage.ancestors_in(generation))

    def resample_in_place(self) -> bool:
        """Resample if that is due; for a loop that will carry on all that the program holds of the particles."""
        if (
            self.look_ahead is not None or not self.population.may_resample or self._sites_after_stop is not None
        ):  # it needs the site that comes next
            return False
        self._watch.end("the next iteration of a loop", LIBRARIES if self._calls_back else ("torch",))
        resampled = self.population.resample_degenerate_runs()
        self._watch.begin("the iteration before")
        return resampled

    def _pyro_loop(self, msg: Any) -> None:
        msg["value"] = self._loops.enter(msg["name"])
        msg["done"] = True

    def _pyro_param(self, msg: Any) -> None:
        self._watch.end(f"parameter {msg['name']!r}")  # which may be initialised at random

    def _pyro_post_param(self, msg: Any) -> None:
        self._watch.begin(f"parameter {msg['name']!r}")

    def _pyro_twist(self, msg: Any) -> None:
        name = msg["name"]
        if self.record.visit(name, "twist") is None and self._sites_after_stop is None:
            self._watch.end(f"twist {name!r}")
            self.population.declare_potential("twist", name, self._by_particle(name, evaluated(msg)))
            self.record.add(Site(name, "twist", None))
            self._watch.begin(f"twist {name!r}")
        msg["done"] = True

    def _pyro_sample(self, msg: Any) -> None:
        kind = kind_of(msg)
        site = self.record.visit(msg["name"], kind)
        if site is None and self._sites_after_stop is not None:
            self._sites_after_stop += 1
            if self._sites_after_stop > MOST_SITES_AFTER_STOP:
                raise Endless
            return
        if site is None:
            calls_back = self._calls_back or "proposal" in msg["infer"]
            may_draw = LIBRARIES if calls_back else libraries_drawn_from(msg["fn"], msg["is_observed"])
            self._watch.end(f"site {msg['name']!r}", may_draw)
            check_plates(msg, PARTICLE_PLATE, self.axis.dim)
            if kind == "latent" and not msg["done"]:
                self._resample_or_propose(msg)
            return
        if self.restarts <= COMPARED_REPLAYS:
            self._watch.check(f"site {msg['name']!r}")
            compare_with_record(site, msg, partial(self.carry, generation=site.met))
        if kind in ("latent", "subsample"):
            msg["value"], msg["done"] = self._present_value(site), True

    def _resample_or_propose(self, msg: Any) -> None:
        """Before a fresh latent value: restart the program if a run is resampled, else draw from a proposal if any."""
        name = msg["name"]
        claim()  # time may have run out
        if self.look_ahead is not None and self.population.may_resample:
            log_potential = self._by_particle(name, torch.as_tensor(self.look_ahead(name, msg["fn"])))
            self.population.declare_potential("look-ahead before site", name, log_potential)
        if self.population.resample_degenerate_runs():
            raise Restart
        proposal = proposal_of(msg)
        if proposal is not None:
            self._proposals[name] = proposal
            msg["value"], msg["done"] = proposal.sample(), True

    def _pyro_post_sample(self, msg: Any) -> None:
        name, kind = msg["name"], kind_of(msg)
        site = self.record.get(name)
        if site is not None:
            if kind == "deterministic":
                site.replace_value(msg["value"], self.generation)
            return
        if self._sites_after_stop is not None:
            return
        site = Site(name, kind, msg["value"], generation=self.generation, met=self.generation)
        site.per_particle, site.plate_nesting = plates_of(msg, PARTICLE_PLATE)
        if self.restarts < COMPARED_REPLAYS:
            site.fn = msg["fn"]
        if kind in ("latent", "observed"):
            site.event_dim = getattr(msg["fn"], "event_dim", None)
        if kind == "latent":
            site.shared = shared_parameters(msg["fn"])
            site.decode = getattr(msg["fn"], "decode", None)
            site.drawn = None if site.decode is None else msg["value"]
            site.log_prob, site.step = self._weigh_latent(msg)
        elif kind == "observed":
            site.step = self._fold(msg)
        self.record.add(site)
        self._watch.begin(f"site {name!r}")

    def samples(self) -> dict[str, Tensor]:
        """The values that each particle has for itself at latent and deterministic sites, each `[R, N, ...]`.

        Dimensions left of a site's own plates go: values have the shape that the program alone gives them.
        """
        kept = {}
        for site in self.record.sites:
            if site.kind not in ("latent", "deterministic") or not site.per_particle:
                continue
            value = self._present_value(site)
            if isinstance(value, Tensor) and (site.kind == "latent" or self.axis.find(value) is not None):
                kept[site.name] = self._within_plates(site, self.axis.split_runs(value, site.event_dim))
        return kept

    def _within_plates(self, site: Site, value: Tensor) -> Tensor:
        foreign = -1 - self.axis.dim - site.plate_nesting
        if foreign == 0 or self.axis.find(site.value, site.event_dim) is None:
            return value
        if any(size != 1 for size in value.shape[2 : 2 + foreign]):
            return value
        return value.reshape(value.shape[:2] + value.shape[2 + foreign :])

    def observed(self) -> dict[str, Tensor]:
        """The observed values by site; plain factors (`pyro.factor`) have none."""
        observed = {site.name: site.value for site in self.record.sites if site.kind == "observed"}
        return {name: value for name, value in observed.items() if isinstance(value, Tensor) and value.numel()}

    def step_tokens(self) -> tuple[list[Tensor], Callable[[list[int]], str]] | None:
        """What each slot wrote before each step and after the one before, `[R, N, L]`, and what decodes it.

        None where no site was text, or a particle has several texts. What the runs then were is not what they are now
        where runs were exchanged.
        """
        return step_tokens(self.record.sites, len(self.population.steps), self.axis)

    def log_prior(self) -> Tensor:
        """Sum of the log-probabilities of each particle's latent values; NaN if a distribution has none. `[R, N]`."""
        sites = [(site.log_prob, site.met) for site in self.record.sites if site.log_prob is not None]
        total = self.population.lineage.sum((log_prob.detach().cpu(), met) for log_prob, met in sites)
        return total.expand(self.axis.size).reshape(self.axis.num_runs, self.axis.num_particles)

    def present_value(self, site: Site, slots: Tensor) -> Any:
        """The value of a recorded site, particle p's being that of `slots[p]`. Int64 `[P]`."""
        value = self._present_value(site)
        return self.axis.gather(value, slots, site.event_dim) if site.per_particle else value

    def _present_value(self, site: Site) -> Any:
        site.check_unchanged()
        if site.per_particle and site.generation != self.generation:
            slots = self.population.lineage.ancestors_in(site.generation)
            site.replace_value(self.axis.gather(site.value, slots, site.event_dim), self.generation)
        return site.value

    def _fold(self, msg: Any) -> int | None:
        """Fold in the factor of a new observed site; returns its step, None if it is none."""
        self.population.fold(msg["name"], self._by_particle(msg["name"], scored(msg)))
        return len(self.population.steps) - 1

    def _weigh_latent(self, msg: Any) -> tuple[Tensor, int | None]:
        """Weigh a new latent value; returns its log-probability `[P]`, and its step if it is a factor by its scale."""
        name, log_factor = msg["name"], None
        weighs_scale = self._weighs_scales and is_scaled(msg)
        counted = unscaled(msg) if weighs_scale else msg
        if name in self._proposals:
            drawn_log_prob, log_ratio = weigh_draw(msg, self._proposals.pop(name))
            self.population.reweigh(name, self._by_particle(name, log_ratio))
            log_prob = self._by_particle(name, scaled(counted, drawn_log_prob))
            if weighs_scale:
                log_factor = self._by_particle(name, factor_of_scale(msg, drawn_log_prob))
        else:
            log_prob = self._log_prior(counted)
            if weighs_scale:
                log_factor = self._factor_of_scale(msg)
        if log_factor is None:
            return log_prob, None
        self.population.fold(name, log_factor)
        return log_prob, len(self.population.steps) - 1

    def _factor_of_scale(self, msg: Any) -> Tensor:
        return self._by_particle(msg["name"], factor_of_scale(msg, log_prob_of_draw(msg)))

    def _log_prior(self, msg: Any) -> Tensor:
        try:
            return self._by_particle(msg["name"], scored(msg))
        except NotImplementedError:  # a distribution that can only be sampled
            return torch.full((self.axis.size,), torch.nan)

    def _by_particle(self, name: str, log_prob: Tensor) -> Tensor:
        return self.axis.sum(name, log_prob)

    def _carries_no_factor(self, site: Site) -> bool:
        if site.step is None:
            return True
        step = self.population.steps[site.step]
        return not bool(self.population.lineage.carry(step.log_factor.flatten(), step.generation).any())
