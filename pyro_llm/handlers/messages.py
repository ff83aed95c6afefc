"""Reading Pyro's messages: what a site is, where its plates stand, whether its parameters are those of before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_llm.errors import PlateNestingError, ReplayError
from pyro_llm.handlers.record import REPLAY_ADVICE, Site, SiteKind
from pyro_llm.handlers.structures import agree


def kind_of(msg: Any) -> SiteKind:
    """What a sample site is to an inference engine."""
    if msg["is_observed"]:
        return "deterministic" if msg["infer"].get("_deterministic") else "observed"
    return "subsample" if site_is_subsample(msg) else "latent"


def scored(msg: Any) -> Tensor:
    """The log-probability of a site's value, scaled and masked by the handlers of the program."""
    if msg["mask"] is False:
        return torch.zeros(())
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


def plate_nesting(msg: Any, particle_plate: str) -> int:
    """How far the plates of a site reach to the left, that of the particles apart: the -dim of the leftmost, or 0."""
    frames = msg["cond_indep_stack"]
    return max((-frame.dim for frame in frames if frame.dim is not None and frame.name != particle_plate), default=0)


def compare_with_record(site: Site, msg: Any, carry: Callable[[Tensor], Tensor]) -> None:
    """Raise ReplayError if a replayed site has other parameters, or another observed value, than when it was met.

    Looks at the distributions of Pyro and torch; others may compute their parameters lazily.

    Args:
        site: the site as recorded.
        msg: the site on replay.
        carry: gives the parameters that were recorded with it for the ancestors of the present particles.
    """
    if site.fn is None or site.kind == "deterministic":
        return
    if site.kind == "observed" and not _same_observation(site, msg, carry):
        raise ReplayError(f"On replay, site {site.name!r} had another observed value than at first. {REPLAY_ADVICE}")
    before, now = _parameters(site.fn), _parameters(msg["fn"])
    for name in before.keys() & now.keys():
        if not agree(carry(before[name]), now[name]):
            raise ReplayError(
                f"On replay, the parameter {name!r} of site {site.name!r} was not what it was at first, for the "
                f"ancestors of the particles. {REPLAY_ADVICE} What an iteration of `pyro_llm.loop` needs of earlier "
                "ones must be in the loop's state."
            )


def _same_observation(site: Site, msg: Any, carry: Callable[[Tensor], Tensor]) -> bool:
    before, now = site.value, msg["value"]
    if not isinstance(before, Tensor) or not isinstance(now, Tensor):
        return True
    return agree(before, now) or agree(carry(before), now)


def _parameters(fn: Any) -> dict[str, Tensor]:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    if not type(fn).__module__.startswith(("torch.", "pyro.")):
        return {}
    declared = getattr(fn, "arg_constraints", {})
    return {name: value for name, value in vars(fn).items() if name in declared and isinstance(value, Tensor)}
