"""Noticing random numbers that are drawn where an engine does not see them."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import torch

from pyro_llm.errors import HiddenRandomnessError

_WORDS = 624  # of a Mersenne twister, NumPy's global generator by default; the place among them follows
_CLOSE_CHECKS = 64
_CHECKS_A_READING = 16


class _NumpyState:
    """The state of NumPy's global generator, by value.

    `np.random.get_state()` copies the generator's words one by one, which would take most of the time of watching. They
    are therefore read from where the generator says that they are. A normal deviate may be kept back outside them, but
    only a draw that moves the words keeps one, so the full state is read again if they have moved, or if one is kept.
    """

    def __init__(self) -> None:
        self._generator: np.random.MT19937 | None = None
        self._address = 0
        self._words: bytes | None = None
        self._full: tuple[Any, ...] = ()

    def now(self) -> tuple[Any, ...]:
        """The present state."""
        generator = np.random.mtrand.get_bit_generator()
        if not isinstance(generator, np.random.MT19937):
            return (repr(np.random.get_state(legacy=False)),)
        if generator is not self._generator:
            self._generator, self._address = generator, generator.ctypes.state_address
        words = ctypes.string_at(self._address, 4 * _WORDS + 4)
        keeps_one_back = bool(self._full and self._full[3])
        if words != self._words or keeps_one_back:
            name, values, *rest = np.random.get_state()
            self._words, self._full = words, (name, np.asarray(values).tobytes(), *rest)
        return self._full


_numpy_state = _NumpyState()


def _torch_state() -> tuple[bytes, list[bytes]]:
    """The states of torch's generators, by value."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state().numpy().tobytes(), [state.numpy().tobytes() for state in cuda]


_READ: dict[str, Callable[[], Any]] = {"torch": _torch_state, "numpy": _numpy_state.now, "random": random.getstate}
LIBRARIES = tuple(_READ)


class RandomnessWatch:
    """Raises HiddenRandomnessError if a program draws random numbers where no handler sees it.

    It compares the states of the generators at the end of one site with those at the beginning of the next, so what
    sites draw themselves is left out.

    Reading the states of Python's and NumPy's generators at each site would take a good part of the time of a small
    program. So they are read at each of the first checks, which find most programs out, and later at some only. No draw
    escapes this, as a state is held against the one that was read last, unless something was free to draw in between,
    before which it is read always; only the place that the error names is less exact.
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[Any, str]] = {}  # state of each library that may not draw, and where it was read
        self._checks = 0

    @property
    def watching(self) -> bool:
        """Whether draws are noticed at present."""
        return "torch" in self._last

    def begin(self, place: str = "the beginning of the program") -> None:
        """Watch from here on."""
        for library, read in _READ.items():
            if library not in self._last:
                self._last[library] = read(), place

    def check(self, place: str, thorough: bool = False) -> None:
        """Raise if anything was drawn since the last check; if not `thorough`, for some libraries maybe later."""
        self._checks += 1
        thorough = thorough or self._checks <= _CLOSE_CHECKS or self._checks % _CHECKS_A_READING == 0
        for library, (state, since) in self._last.items():
            if library != "torch" and not thorough:
                continue
            if _READ[library]() != state:
                raise HiddenRandomnessError(
                    f"The program drew random numbers ({library}) outside any visible sample site, between {since} and "
                    f"{place}. They belong to no particle and no site, and when the program is executed again after "
                    "resampling they are others. Draw them by `pyro.sample`, not hidden by `poutine.block`, or draw "
                    "them once before the inference (`pyro.param` takes a function that does)."
                )
            self._last[library] = state, place

    def end(self, place: str, may_draw: Collection[str] = LIBRARIES) -> None:
        """Check, and let some libraries draw until the next `begin`.

        Args:
            place: what follows.
            may_draw: the libraries that it may draw from; the others stay watched.
        """
        self.check(place, thorough="random" in may_draw)
        self._last = {library: last for library, last in self._last.items() if library not in may_draw}


def libraries_drawn_from(fn: Any, observed: bool) -> Collection[str]:
    """The libraries that sampling a distribution, or scoring an observed value, may draw from.

    That is known of the distributions of torch and Pyro that are given by their parameters.
    """
    while type(fn).__name__ in ("ExpandedDistribution", "Independent", "MaskedDistribution"):
        fn = fn.base_dist
    if not type(fn).__module__.startswith(("torch.", "pyro.")) or not getattr(fn, "arg_constraints", None):
        return LIBRARIES
    return () if observed else ("torch",)
