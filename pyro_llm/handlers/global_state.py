"""What programs change for the whole process, so that one can be suspended and others executed in between."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK
from torch import Tensor


@dataclass(frozen=True)
class GlobalState:
    """Pyro's handlers and plates, and the random number generators, at one moment.

    Parameters (`pyro.param`) are not among it: all executions share them.
    """

    handlers: tuple[Any, ...]
    plates: tuple[str | None, ...]
    torch: Tensor
    cuda: tuple[Tensor, ...]
    numpy: Any
    python: Any

    @classmethod
    def now(cls) -> GlobalState:
        """The present state."""
        return cls(
            handlers=tuple(_PYRO_STACK),
            plates=tuple(_DIM_ALLOCATOR._stack),
            torch=torch.get_rng_state(),
            cuda=tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else (),
            numpy=np.random.get_state(),
            python=random.getstate(),
        )

    def restore(self) -> None:
        """Make this the present state."""
        _PYRO_STACK[:] = self.handlers
        _DIM_ALLOCATOR._stack[:] = self.plates
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))
        np.random.set_state(self.numpy)
        random.setstate(self.python)
