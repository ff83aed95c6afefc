"""The handler that executes a program for one particle, stop by stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.handlers.endless import MOST_SITES_AFTER_STOP, Endless
from pyro_llm.handlers.loop_record import LoopRecords
from pyro_llm.handlers.messages import compare_laws, compare_with_record, kind_of, scaled, scored
from pyro_llm.handlers.proposals import proposal_of, weigh_draw
from pyro_llm.handlers.randomness import RandomnessWatch
from pyro_llm.handlers.record import Site, SiteRecord
from pyro_llm.handlers.scales import factor_of_scale, is_scaled, log_prob_of_draw, unscaled
from pyro_llm.handlers.twist import evaluated

COMPARED_REPLAYS = 2


@dataclass(frozen=True)
class Request:
    """What a particle asks for, to be answered together with the requests of others.

    Attributes:
        operation: `"sample"` a latent value, or the `"log_prob"` of an observed one.
        name: the site.
        fn: its distribution.
        value: the observed value.
    """

    operation: Literal["sample", "log_prob"]
    name: str
    fn: Any
    value: Any = None


class _Stop(BaseException):
    """Leaves a program that is to be replayed. No `Exception`: a program's `except Exception` must not swallow it."""


class ScalarMessenger(Messenger):
    """The execution of a program for one particle: its values, its factors, and where it stands.

    `advance` executes the program up to the next latent value that follows a new factor (where the population may be
    resampled), or to its end; on the way it stops where a distribution can be sampled or scored together with those
    of other particles. A distribution class says so by static or class methods
    `sample_together(distributions) -> values` and `log_prob_together(distributions, values) -> log-probabilities`,
    lists with one item for each distribution.

    Args:
        look_ahead: log of the particle's first-stage weight, from the name and the distribution of the latent site
            that comes next.
    """

    def __init__(self, look_ahead: Callable[[str, Any], Any] | None = None) -> None:
        super().__init__()
        self.look_ahead = look_ahead
        self.record = SiteRecord(may_skip=lambda site: False)
        self.loops = LoopRecords(self)
        self.ended = False
        self.may_be_resampled = False
        self.request: Request | None = None
        self.returned: Any = None
        self.new_factors: list[tuple[str, float]] = []
        self.log_prior = 0.0
        self.new_log_ratios: list[tuple[str, float]] = []  # of the draws from proposals, by site
        self.log_potentials: dict[str, tuple[str, float]] = {}  # part -> (site, log-potential)
        self._answers: dict[str, tuple[Any, Any]] = {}
        self._watch = RandomnessWatch()
        self._replays = -1
        self._sites_after_stop: int | None = None

    def fork(self) -> ScalarMessenger:
        """A particle with the same past, that goes on by itself."""
        other = ScalarMessenger(self.look_ahead)
        other.record, other.loops = self.record.fork(), self.loops.fork(other)
        other.ended, other.returned, other.log_prior = self.ended, self.returned, self.log_prior
        other.request, other._replays = self.request, self._replays
        other.log_potentials = dict(self.log_potentials)
        return other

    def advance(self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Execute the program up to its next stop: it `ended`, or `may_be_resampled`, or waits for a `request`."""
        self.may_be_resampled = False
        self.record.begin()
        self.loops.begin()
        self._replays += 1
        if self._replays > 0:
            self._watch.begin()
        try:
            with self:
                returned = model(*args, **kwargs)
        except _Stop:
            return
        self._watch.end("the end of the program")
        self.record.end()
        self.loops.end()
        self.returned, self.ended = returned, True

    def end_without_weight(self, model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Execute the program to its end without recording what is new; returns what it does.

        See `ParticleMessenger.stop`.
        """
        self._sites_after_stop = 0
        self.record.begin()
        self.loops.begin()
        self._replays += 1
        self._watch.begin()
        with self:
            return model(*args, **kwargs)

    def answer(self, result: Any) -> None:
        """Give what was requested: the value of a latent site, the log-probability of an observed one."""
        assert self.request is not None
        self._answers[self.request.name] = (self.request.fn, result)
        self.request = None

    @property
    def generation(self) -> int:
        """Always 0: a copy takes the values of its particle along."""
        return 0

    def carry(self, value: Any, generation: int) -> Any:
        """The structure itself."""
        return value

    def resample_in_place(self) -> bool:
        """Never: what is resampled is all executions together."""
        return False

    def _pyro_loop(self, msg: Any) -> None:
        msg["value"] = self.loops.enter(msg["name"])
        msg["done"] = True

    def _pyro_twist(self, msg: Any) -> None:
        name = msg["name"]
        if self.record.visit(name, "twist") is None and self._sites_after_stop is None:
            self._watch.end(f"twist {name!r}")
            self.log_potentials["twist"] = name, evaluated(msg).double().sum().item()
            self.record.add(Site(name, "twist", None))
        msg["done"] = True

    def _pyro_sample(self, msg: Any) -> None:
        name, kind = msg["name"], kind_of(msg)
        site = self.record.visit(name, kind)
        if site is not None:
            if self._replays <= COMPARED_REPLAYS:
                self._watch.check(f"site {name!r}")
                compare_with_record(site, msg, lambda parameter: parameter)
            if kind in ("latent", "subsample"):
                site.check_unchanged()
                msg["value"], msg["done"] = site.value, True
            return
        if self._sites_after_stop is not None:
            self._sites_after_stop += 1
            if self._sites_after_stop > MOST_SITES_AFTER_STOP:
                raise Endless
            return
        self._watch.end(f"site {name!r}")
        if kind == "latent" and not msg["done"]:
            if name in self._answers:
                if msg["infer"].get("proposal") is None:
                    compare_laws(name, self._answers[name][0], msg["fn"])
                msg["value"], msg["done"] = self._answers[name][1], True
                return
            self._stop_or_propose(msg)
            return
        scored_together = kind == "observed" and hasattr(type(msg["fn"]), "log_prob_together")
        if scored_together and name not in self._answers and not _masked_out(msg):
            self.request = Request("log_prob", name, msg["fn"], msg["value"])
            raise _Stop

    def _stop_or_propose(self, msg: Any) -> None:
        """Before a fresh latent value: stop where others are waited for, else draw from a proposal if there is one."""
        name, fn = msg["name"], msg["fn"]
        self.may_be_resampled = bool(self.new_factors)
        if self.may_be_resampled and self.look_ahead is not None:
            log_potential = torch.as_tensor(self.look_ahead(name, fn)).double().sum().item()
            self.log_potentials["look-ahead before site"] = name, log_potential
        proposal = proposal_of(msg)
        # The copies that resampling makes of this particle ask for the same, so the request need not be made anew.
        if hasattr(type(fn if proposal is None else proposal), "sample_together"):
            self.request = Request("sample", name, fn if proposal is None else proposal)
        if self.may_be_resampled or self.request is not None:
            raise _Stop
        if proposal is not None:
            self._answers[name] = proposal, proposal.sample()
            msg["value"], msg["done"] = self._answers[name][1], True

    def _pyro_post_sample(self, msg: Any) -> None:
        name, kind = msg["name"], kind_of(msg)
        site = self.record.get(name)
        if site is not None:
            if kind == "deterministic":
                site.replace_value(msg["value"], 0)
            return
        if self._sites_after_stop is not None:
            return
        fn, answer = self._answers.pop(name, (None, None))
        site = Site(name, kind, msg["value"], fn=msg["fn"] if self._replays < COMPARED_REPLAYS else None)
        if kind == "latent":
            self._weigh_latent(msg, fn)
        elif kind == "observed":
            if fn is not None:
                log_prob = scale_and_mask(answer, msg["scale"], msg["mask"])
            else:
                log_prob = torch.zeros(()) if _masked_out(msg) else scored(msg)
            self.new_factors.append((name, log_prob.double().sum().item()))
        self.record.add(site)

    def _weigh_latent(self, msg: Any, drawn_from: Any) -> None:
        name = msg["name"]
        drawn_log_prob = None
        if drawn_from is not None and msg["infer"].get("proposal") is not None:
            drawn_log_prob, log_ratio = weigh_draw(msg, drawn_from)
            self.new_log_ratios.append((name, log_ratio.sum().item()))
        elif drawn_from is not None:
            msg = {**msg, "fn": drawn_from}
        if is_scaled(msg):
            drawn_log_prob = log_prob_of_draw(msg) if drawn_log_prob is None else drawn_log_prob
            self.new_factors.append((name, factor_of_scale(msg, drawn_log_prob).double().sum().item()))
        if drawn_log_prob is None:
            self.log_prior += _log_prior(msg)
        else:
            self.log_prior += scaled(unscaled(msg), drawn_log_prob).double().sum().item()


def _log_prior(msg: Any) -> float:
    try:
        return scored(msg).double().sum().item()
    except NotImplementedError:  # a distribution that can only be sampled
        return float("nan")


def _masked_out(msg: Any) -> bool:
    mask = msg["mask"]
    return mask is False or (isinstance(mask, Tensor) and not bool(mask.any()))
