"""A check that the prompt, which all particles share, is made from no particle's latent values.

Where all particles are executed at once, a program can take the value of some for that of all: `x[0]`, `x.tolist()`. A
replay after resampling shows that, if there is one. So, if a site after latent values has a prompt that none before
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
from pyro_llm.handlers.reordered_replay import ReorderedReplay, Strayed, repeat


def check_what_is_shared(execute: Callable[[Messenger], Any], particles: ParticleMessenger) -> None:
    """Raise ReplayError if a prompt, or what else all particles share, changes with the order of the particles.

    Args:
        execute: executes the program inside a handler, and the plate of the particles.
        particles: what it did.
    """
    size = particles.axis.size
    if size == 1 or not _prompts_after_latents(particles.record.sites):
        return
    slots = torch.arange(size)
    for order in (slots.flip(0), slots.roll(-1), slots.roll(size // 2)):
        comparison = _Compared(particles, order)
        repeat(execute, comparison)
        if comparison.difference is not None:
            raise ReplayError(comparison.difference)


def _prompts_after_latents(sites: Sequence[Site]) -> bool:
    """Whether a site after a latent value has a prompt that no site had before any."""
    known: list[Any] = []
    after_latent = False
    for site in sites:
        prompt = site.shared.get("prompt")
        if prompt is not None and prompt not in known:
            if after_latent:
                return True
            known.append(prompt)
        after_latent = after_latent or (site.kind == "latent" and site.per_particle)
    return False


class _Compared(ReorderedReplay):
    """Compares what particles share with what it was.

    Attributes:
        difference: what has changed, and what to do; None if nothing has.
    """

    difference: str | None = None

    def see(self, site: Site, msg: Any) -> None:
        shared = shared_parameters(msg["fn"]) if site.shared else {}
        for name, value in shared.items():
            if name in site.shared and site.shared[name] != value:
                self.difference = (
                    f"The {name} of site {site.name!r} is one for all particles, and is made from the latent values of "
                    f"some: it was {site.shared[name]!r}, and is {value!r} with the same particles in another order. "
                    'Use particles="scalar" of `SMC` or `Importance`, which then run the program once for each '
                    f"particle. If it is made from no latent values: {REPLAY_ADVICE}"
                )
                raise Strayed

    def stray(self, name: str) -> None:
        self.difference = (
            f"Site {name!r} was met only when the program was executed again, with its particles in another order. "
            f"{REPLAY_ADVICE}"
        )
