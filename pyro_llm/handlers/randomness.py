"""Noticing random numbers that are drawn where an engine does not see them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_llm.errors import HiddenRandomnessError


@dataclass(frozen=True)
class GeneratorStates:
    """The states of the global random number generators of torch, NumPy and Python at one moment."""

    torch: Tensor
    cuda: tuple[Tensor, ...]
    numpy: tuple[Any, ...]
    python: tuple[Any, ...]

    @classmethod
    def now(cls) -> GeneratorStates:
        """The present states."""
        cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
        return cls(torch.get_rng_state(), cuda, np.random.get_state(), random.getstate())  # type: ignore[arg-type]

    def changed_since(self, earlier: GeneratorStates) -> list[str]:
        """The libraries whose generator has been used since."""
        changed = []
        same_cuda = len(self.cuda) == len(earlier.cuda) and all(map(torch.equal, self.cuda, earlier.cuda))
        if not torch.equal(self.torch, earlier.torch) or not same_cuda:
            changed.append("torch")
        if self.numpy[2:] != earlier.numpy[2:] or not np.array_equal(self.numpy[1], earlier.numpy[1]):
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
