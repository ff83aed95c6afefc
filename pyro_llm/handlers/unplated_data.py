"""Data without a plate, as many as there are particles: each particle would then be given a datum of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.errors import PlateNestingError
from pyro_llm.handlers.particle_messenger import ParticleMessenger
from pyro_llm.handlers.record import Site
from pyro_llm.handlers.reordered_replay import ReorderedReplay, repeat
from pyro_llm.handlers.structures import agree


def check_observations(execute: Callable[[Messenger], Any], particles: ParticleMessenger) -> None:
    """Raise PlateNestingError if a program that has ended observed data in the place of the particles.

    An observed value that has the dimension of the particles must have been computed from theirs. So where there is
    one, the program is executed once more with the particles in another order, and the value must then be in that
    order too, and be a new tensor: a constant that the program makes (`torch.ones_like`) is right in any order. Values
    that do not repeat themselves are left alone. Nothing is drawn, and no factor asked for.

    Args:
        execute: executes the program inside a handler, and the plate of the particles.
        particles: what it did.
    """
    suspects = [site for site in particles.record.sites if _has_particles(site, particles)]
    if not suspects:
        return
    in_order = torch.arange(particles.axis.size)
    turned = _observed(execute, particles, in_order.roll(1))
    suspects = [site for site in suspects if site.name in turned and not _follows(site, particles, turned[site.name])]
    if not suspects:
        return
    repeated = _observed(execute, particles, in_order)
    for site in suspects:
        if site.name in repeated and _repeats(site, particles, repeated[site.name]):
            size, nesting = particles.axis.size, -particles.axis.dim
            raise PlateNestingError(
                f"The observed value of site {site.name!r}, of shape {tuple(site.value.shape)}, has {size} entries "
                f"where the {size} particles are, and does not follow them: each particle would be given a datum of "
                "its own in place of all data. Put the site into a `pyro.plate` for the data and give "
                f"max_plate_nesting={nesting}, the number of plates that the program nests. What all particles share "
                "is observed without their dimension."
            )


def _has_particles(site: Site, particles: ParticleMessenger) -> bool:
    value = site.value
    if site.kind != "observed" or particles.axis.size == 1 or not isinstance(value, Tensor) or not value.numel():
        return False
    index = particles.axis.find(value, site.event_dim)
    return index is not None and value.stride(index) != 0


def _follows(site: Site, particles: ParticleMessenger, now: Tensor) -> bool:
    """Whether a value is that of the turned particles, and not the very tensor that was there before."""
    if now.untyped_storage().data_ptr() == site.value.untyped_storage().data_ptr():
        return False
    before = particles.carry(site.value, site.met)
    return agree(particles.axis.gather(before, torch.arange(particles.axis.size).roll(1), site.event_dim), now)


def _repeats(site: Site, particles: ParticleMessenger, now: Tensor) -> bool:
    return agree(site.value, now) or agree(particles.carry(site.value, site.met), now)


def _observed(execute: Callable[[Messenger], Any], particles: ParticleMessenger, slots: Tensor) -> dict[str, Tensor]:
    """What is observed by site with the particles in this order; nothing where the program does otherwise."""
    observer = _Observer(particles, slots)
    return observer.seen if repeat(execute, observer) else {}


class _Observer(ReorderedReplay):
    """Sees what is observed."""

    def __init__(self, particles: ParticleMessenger, slots: Tensor) -> None:
        super().__init__(particles, slots)
        self.seen: dict[str, Tensor] = {}

    def see(self, site: Site, msg: Any) -> None:
        if site.kind == "observed" and isinstance(msg["value"], Tensor):
            self.seen[site.name] = msg["value"]
