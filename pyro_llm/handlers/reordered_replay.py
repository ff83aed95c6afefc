"""A program that has ended, executed again with its particles in another order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.handlers.messages import kind_of
from pyro_llm.handlers.particle_messenger import ParticleMessenger
from pyro_llm.handlers.record import Site
from pyro_llm.run_scope import BudgetSpent, run_scope


class Strayed(Exception):
    """Enough has been seen of the program, or it does not do what it did before."""


def repeat(execute: Callable[[Messenger], Any], replay: ReorderedReplay) -> bool:
    """Execute a program that has ended in a replay; whether it came to its end.

    What the program does of itself, outside its sites, it does again, but in a scope of its own: it costs the run
    nothing, and no failure there is one of the run.

    Args:
        execute: executes the program inside a handler, and the plate of the particles.
        replay: the handler.
    """
    try:
        with run_scope():
            execute(replay)
    except (Exception, BudgetSpent):
        return False
    return True


class ReorderedReplay(Messenger):
    """Gives latent sites the values that were drawn, in another order of the particles.

    What is made from them for all particles at once, or in their place, shows itself by not following. At the sites no
    model runs, nothing is drawn, and no factor is asked for.

    Args:
        particles: what the program did.
        slots: particle p gets the values of `slots[p]`. Int64 `[P]`.
    """

    def __init__(self, particles: ParticleMessenger, slots: Tensor) -> None:
        super().__init__()
        self.particles = particles
        self.slots = slots

    def see(self, site: Site, msg: Any) -> None:
        """Look at a site as it is met again: for those who replay to see something.

        Args:
            site: what was recorded of it.
            msg: Pyro's message, before it has a value if it is latent.
        """

    def stray(self, name: str) -> None:
        """Note that a site was not met before."""

    def _pyro_twist(self, msg: Any) -> None:
        msg["done"] = True

    def _pyro_sample(self, msg: Any) -> None:
        kind = kind_of(msg)
        site = self.particles.record.get(msg["name"])
        if site is None or site.kind != kind:
            self.stray(msg["name"])
            raise Strayed
        self.see(site, msg)
        if kind in ("latent", "subsample"):
            msg["value"], msg["done"] = self.particles.present_value(site, self.slots), True
