"""A check that what all particles share, such as a prompt, is made from no particle's latent values.

Where all particles are executed at once, a program can take the value of some for that of all: `x[0]`, `x.tolist()`. A
replay after resampling shows that, if there is one. So, if a site after latent values shares something that none before
them had, the program is executed three times more when it has ended, its particles in other orders. It finds the values
that were drawn: no model runs, and nothing is scored. It is no proof: particles that change places may have equal
values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.errors import ReplayError
from pyro_llm.handlers.messages import kind_of, shared_parameters
from pyro_llm.handlers.record import REPLAY_ADVICE, Site, SiteRecord
from pyro_llm.handlers.structures import ParticleAxis


def check_what_is_shared(
    execute: Callable[[Messenger], Any], record: SiteRecord, axis: ParticleAxis, present: Callable[[Site], Any]
) -> None:
    """Raise ReplayError if something that all particles share changes with the order of the particles.

    Args:
        execute: executes the program inside a handler, and the plate of the particles.
        record: what the program did.
        axis: of the particles.
        present: the value of a recorded latent site, for the present particles.
    """
    if axis.size == 1 or not _shared_after_latents(record.sites):
        return
    slots = torch.arange(axis.size)
    for order in (slots.flip(0), slots.roll(-1), slots.roll(axis.size // 2)):
        execute(_ReorderedReplay(record, axis, present, order))


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


class _ReorderedReplay(Messenger):
    def __init__(self, record: SiteRecord, axis: ParticleAxis, present: Callable[[Site], Any], order: Tensor) -> None:
        super().__init__()
        self._record, self._axis, self._present, self._order = record, axis, present, order

    def _pyro_twist(self, msg: Any) -> None:
        msg["done"] = True

    def _pyro_sample(self, msg: Any) -> None:
        site = self._record.get(msg["name"])
        if site is None:
            raise ReplayError(
                f"Site {msg['name']!r} was met only when the program was executed again, with its particles in another "
                f"order. {REPLAY_ADVICE}"
            )
        shared = shared_parameters(msg["fn"]) if site.shared else {}
        for name, value in shared.items():
            if name in site.shared and site.shared[name] != value:
                raise ReplayError(
                    f"The {name} of site {site.name!r} is one for all particles, and is made from the latent values of "
                    f"some: it was {site.shared[name]!r}, and is {value!r} with the same particles in another order. "
                    'Use particles="scalar" of `SMC` or `Importance`, which then run the program once for each '
                    f"particle. If it is made from no latent values: {REPLAY_ADVICE}"
                )
        if kind_of(msg) in ("latent", "subsample"):
            value = self._present(site)
            order = self._order if site.per_particle else None
            msg["value"], msg["done"] = self._axis.gather(value, order, site.event_dim), True
