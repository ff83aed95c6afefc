"""Noticing random numbers that are drawn where an engine does not see them."""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyro_llm.errors import HiddenRandomnessError

_WORDS = 624  # of a Mersenne twister, with the place among them: what both global generators are by default


class _PythonState:
    """The state of Python's global generator, by value.

    `random.getstate()` makes an object of each word, which would take a large part of the time of watching. In CPython
    the place and the words follow the head of the generator; that they do is checked once, against `getstate`.
    """

    def __init__(self) -> None:
        self._generator: random.Random = random.random.__self__  # type: ignore[attr-defined]
        self._address: int | None = None
        if sys.implementation.name == "cpython" and type(self._generator) is random.Random:
            self._address = id(self._generator) + object.__basicsize__
            place_and_words = struct.unpack(f"@i{_WORDS}I", self._read())
            if (*place_and_words[1:], place_and_words[0]) != random.getstate()[1]:
                self._address = None

    def now(self) -> tuple[Any, ...]:
        """The present state."""
        if self._address is None:
            return random.getstate()
        return (self._read(), self._generator.gauss_next)  # type: ignore[attr-defined]

    def _read(self) -> bytes:
        assert self._address is not None
        return ctypes.string_at(self._address, 4 * _WORDS + 4)


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


_python_state, _numpy_state = _PythonState(), _NumpyState()


class GeneratorStates(NamedTuple):
    """The states of the global random number generators of torch, NumPy and Python at one moment."""

    torch: Tensor
    cuda: tuple[Tensor, ...]
    numpy: tuple[Any, ...]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> GeneratorStates:
        """The present states."""
        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
        return cls(torch.get_rng_state(), cuda, _numpy_state.now(), _python_state.now())

    def changed_since(self, earlier: GeneratorStates) -> list[str]:
        """The libraries whose generator has been used since."""
        changed = []
        same_cuda = len(self.cuda) == len(earlier.cuda) and all(map(torch.equal, self.cuda, earlier.cuda))
        if not torch.equal(self.torch, earlier.torch) or not same_cuda:
            changed.append("torch")
        if self.numpy != earlier.numpy:
            changed.append("numpy")
        if self.python != earlier.python:
            changed.append("random")
        return changed


class RandomnessWatch:
    """Raises HiddenRandomnessError if a program draws random numbers where no handler sees it.

    It compares the states of the generators at the end of one site with those at the beginning of the next, so what
    sites draw themselves is left out.
    """

    def __init__(self) -> None:
        self._before: GeneratorStates | None = None
        self._place = ""

    @property
    def watching(self) -> bool:
        """Whether draws are noticed at present."""
        return self._before is not None

    def begin(self, place: str = "the beginning of the program") -> None:
        """Watch from here on."""
        self._before, self._place = GeneratorStates.now(), place

    def check(self, place: str) -> None:
        """Raise if anything was drawn since the last check."""
        if self._before is None:
            return
        libraries = GeneratorStates.now().changed_since(self._before)
        if libraries:
            raise HiddenRandomnessError(
                f"The program drew random numbers ({', '.join(libraries)}) outside any visible sample site, between "
                f"{self._place} and {place}. They belong to no particle and no site, and when the program is executed "
                "again after resampling they are others. Draw them by `pyro.sample`, not hidden by `poutine.block`, "
                "or draw them once before the inference (`pyro.param` takes a function that does)."
            )
        self._place = place

    def end(self, place: str) -> None:
        """Check, and watch no more until the next `begin`."""
        self.check(place)
        self._before = None
