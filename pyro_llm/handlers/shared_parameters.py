"""A check that what all particles share, such as a prompt, is made from no particle's latent values.

Where all particles are executed at once, a program can take the value of some for that of all: `x[0]`, `x.tolist()`. A
replay after resampling shows that, if there is one. So, if a site after latent values shares something that none before
them had, the program is executed three times more when it has ended, its particles in other orders. It is no proof:
particles that change places may have equal values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.poutine.messenger import Messenger

from pyro_llm.errors import ReplayError
from pyro_llm.handlers.messages import shared_parameters
from pyro_llm.handlers.particle_messenger import ParticleMessenger
from pyro_llm.handlers.record import REPLAY_ADVICE, Site
from pyro_llm.handlers.reordered_replay import ReorderedReplay, Strayed


def check_what_is_shared(execute: Callable[[Messenger], Any], particles: ParticleMessenger) -> None:
    """Raise ReplayError if something that all particles share changes with the order of the particles.

    Args:
        execute: executes the program inside a handler, and the plate of the particles.
        particles: what it did.
    """
    size = particles.axis.size
    if size == 1 or not _shared_after_latents(particles.record.sites):
        return
    slots = torch.arange(size)
    for order in (slots.flip(0), slots.roll(-1), slots.roll(size // 2)):
        try:
            execute(_Compared(particles, order))
        except Strayed as strayed:
            raise ReplayError(
                f"Site {strayed.args[0]!r} was met only when the program was executed again, with its particles in "
                f"another order. {REPLAY_ADVICE}"
            ) from strayed


def _shared_after_latents(sites: Sequence[Site]) -> bool:
    """Whether a site after a latent value shares what no site had before any."""
    known: dict[str, list[Any]] = {}
    after_latent = False
    for site in sites:
        for name, value in site.shared.items():
            if value in known.get(name, ()):
                continue
            if after_latent:
                return True
            known.setdefault(name, []).append(value)
        after_latent = after_latent or (site.kind == "latent" and site.per_particle)
    return False


class _Compared(ReorderedReplay):
    def see(self, site: Site, msg: Any) -> None:
        shared = shared_parameters(msg["fn"]) if site.shared else {}
        for name, value in shared.items():
            if name in site.shared and site.shared[name] != value:
                raise ReplayError(
                    f"The {name} of site {site.name!r} is one for all particles, and is made from the latent values of "
                    f"some: it was {site.shared[name]!r}, and is {value!r} with the same particles in another order. "
                    'Use particles="scalar" of `SMC` or `Importance`, which then run the program once for each '
                    f"particle. If it is made from no latent values: {REPLAY_ADVICE}"
                )
