"""What a search leaves behind in place of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

DecisionRule = Literal["highest score", "summed score", "votes"]


@dataclass(frozen=True, eq=False)
class Searched:
    """How a search decides, and by which scores.

    Attributes:
        decides_by: `"highest score"` of any particle; `"summed score"` of the particles with one value; `"votes"`,
            their number.
        scores: logarithms of the scores. Float64 `[R, N]`; None if nobody scored the particles.
    """

    decides_by: DecisionRule
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        if self.scores is None and self.decides_by != "votes":
            raise ValueError(f"Deciding by {self.decides_by} needs scores.")
