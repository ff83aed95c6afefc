"""What a selection rule is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """What R runs of N particles may go on with.

    Attributes:
        scores: logarithms of the scores. Float64 `[R, N]`.
        identity: equal for particles of a run that have the same past, that is the same latent values. Int64 `[R, N]`.
        number: which selection of the runs this is, from 1.
    """

    scores: Tensor
    identity: Tensor
    number: int


@dataclass(frozen=True)
class Selected:
    """What R runs of N particles go on with.

    Attributes:
        ancestors: the slot whose past each slot continues. Int64 `[R, N]`.
        inverse_temperatures: the power of the scores by which each run was resampled at random; None where nothing was.
            Float64 `[R]`.
    """

    ancestors: Tensor
    inverse_temperatures: Tensor | None = None


SelectionRule = Callable[[Candidates], Selected]
"""Says whose past is continued."""
