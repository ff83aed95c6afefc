"""Reading Pyro's messages: what a site is, where its plates stand, whether its parameters are those of before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_llm.errors import NoDistributionError, PlateNestingError, ReplayError
from pyro_llm.handlers.record import REPLAY_ADVICE, Site, SiteKind
from pyro_llm.handlers.structures import agree


def kind_of(msg: Any) -> SiteKind:
    """What a sample site is to an inference engine."""
    if msg["is_observed"]:
        return "deterministic" if msg["infer"].get("_deterministic") else "observed"
    return "subsample" if site_is_subsample(msg) else "latent"


def scored(msg: Any) -> Tensor:
    """The log-probability of a site's value, scaled and masked by the handlers of the program.

    Raises:
        NoDistributionError: the site's distribution is a mere function, or has no `log_prob`.
        NotImplementedError: it is a distribution that can only be sampled.
    """
    if msg["mask"] is False:
        return torch.zeros(())
    if not hasattr(msg["fn"], "log_prob"):
        raise NoDistributionError(
            f"Site {msg['name']!r} is given {msg['fn']!r}, which is no distribution: it has no log_prob. Give one of "
            "`pyro.distributions`, or a `TorchDistribution` of your own; one that can only be sampled says so by a "
            "`log_prob` that raises NotImplementedError."
        )
    return scaled(msg, msg["fn"].log_prob(msg["value"], *msg["args"], **msg["kwargs"]))


def scaled(msg: Any, log_prob: Tensor) -> Tensor:
    """A log-probability at a site, scaled and masked by the handlers of the program."""
    scale, mask = msg["scale"], msg["mask"]
    if mask is None and isinstance(scale, float) and scale == 1:
        return log_prob
    return torch.zeros(()) if mask is False else scale_and_mask(log_prob, scale, mask)


def check_plates(msg: Any, particle_plate: str, particle_dim: int) -> None:
    """Raise PlateNestingError if a site stands in a plate on the particles' dimension, or left of it."""
    for frame in msg["cond_indep_stack"]:
        if frame.dim is not None and frame.dim <= particle_dim and frame.name != particle_plate:
            raise PlateNestingError(
                f"Site {msg['name']!r} stands in the plate {frame.name!r} at dim={frame.dim}, which is not right of "
                f"the particles at dim={particle_dim}. Set max_plate_nesting to at least the number of plates that "
                f"the program nests, here {-frame.dim - (frame.dim < particle_dim)}."
            )


def plates_of(msg: Any, particle_plate: str) -> tuple[bool, int]:
    """Whether a site stands in the particles' plate, and how far its other plates reach to the left: `-dim`, or 0."""
    per_particle, nesting = False, 0
    for frame in msg["cond_indep_stack"]:
        if frame.name == particle_plate:
            per_particle = True
        elif frame.dim is not None:
            nesting = max(nesting, -frame.dim)
    return per_particle, nesting


def compare_with_record(site: Site, msg: Any, carry: Callable[[Any], Any]) -> None:
    """Raise ReplayError if a replayed site has another law, or another observed value, than when it was met.

    Args:
        site: the site as recorded.
        msg: the site on replay.
        carry: gives the structures that were recorded with it for the ancestors of the present particles.
    """
    if site.fn is None or site.kind == "deterministic":
        return
    if site.kind == "observed" and not _same_observation(site, msg, carry):
        raise ReplayError(f"On replay, site {site.name!r} had another observed value than at first. {REPLAY_ADVICE}")
    compare_laws(site.name, site.fn, msg["fn"], carry)


def compare_laws(name: str, before: Any, now: Any, carry: Callable[[Any], Any] = lambda value: value) -> None:
    """Raise ReplayError if the distribution of a replayed site is not what it was at first.

    Compared are the parameters of distributions of Pyro and torch, and what others name in a method
    `replay_key() -> {name: value}`, whose values are equal if they are the same; those with a row for each particle are
    tensors or have `map_tensors`.

    Args:
        name: the site.
        before: its distribution at first.
        now: its distribution on replay.
        carry: gives the structures of `before` for the ancestors of the present particles.
    """
    before, now = _base(before), _base(now)
    if before is now:
        return
    if (kinds := (_kind(before), _kind(now)))[0] != kinds[1]:
        raise ReplayError(
            f"On replay, the distribution of site {name!r} was {kinds[1]}, and {kinds[0]} at first. {REPLAY_ADVICE}"
        )
    parameters_before, parameters_now = _parameters(before), _parameters(now)
    for parameter in parameters_before.keys() & parameters_now.keys():
        first, present = parameters_before[parameter], parameters_now[parameter]
        if first is present or not (differ := _different(carry(first), present)):
            continue
        raise ReplayError(
            f"On replay, the parameter {parameter!r} of site {name!r} was not what it was at first{differ}, for the "
            f"ancestors of the particles. {REPLAY_ADVICE} What an iteration of `pyro_llm.loop` needs of earlier "
            "ones must be in the loop's state. What all particles share, a prompt say, must not be made from the "
            'latent values of some, as by `x[0]` or `x.tolist()`: use particles="scalar" for that.'
        )


def _same_observation(site: Site, msg: Any, carry: Callable[[Tensor], Tensor]) -> bool:
    before, now = site.value, msg["value"]
    if not isinstance(before, Tensor) or not isinstance(now, Tensor):
        return True
    return agree(before, now) or agree(carry(before), now)


def _different(before: Any, now: Any) -> str:
    """Nothing if two parameters agree, else in what they differ, as far as that can be said briefly."""
    if isinstance(before, Tensor) and isinstance(now, Tensor):
        return "" if agree(before, now) else " (its values differ)"
    if before == now:
        return ""
    return " (its rows differ)" if hasattr(now, "map_tensors") else f" ({now!r}, and {before!r} at first)"


def _base(fn: Any) -> Any:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


def _kind(fn: Any) -> str:
    return type(fn).__qualname__


def shared_parameters(fn: Any) -> dict[str, Any]:
    """Of what `replay_key` names, that of which particles have no rows of their own."""
    key = getattr(_base(fn), "replay_key", None)
    if key is None:
        return {}
    return {
        name: value
        for name, value in key().items()
        if not isinstance(value, Tensor) and not hasattr(value, "map_tensors")
    }


def _parameters(fn: Any) -> dict[str, Any]:
    if hasattr(fn, "replay_key"):
        return fn.replay_key()
    if not type(fn).__module__.startswith(("torch.", "pyro.")):
        return {}
    declared = getattr(fn, "arg_constraints", {})
    return {name: value for name, value in vars(fn).items() if name in declared and isinstance(value, Tensor)}
