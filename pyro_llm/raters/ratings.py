"""Ratings: what several raters said of several texts, and what is known of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_llm.errors import RatingsError


@dataclass(frozen=True, eq=False, repr=False)
class Ratings:
    """Scores of I items by K raters, in any pattern: ratings may be missing, or repeated by the same rater.

    Attributes:
        raters: their names. Length K.
        item: the item of each rating. Int64 `[M]`.
        rater: the rater of each rating. Int64 `[M]`.
        score: the probability that the rater gives to "right", 0 or 1 for a vote. Float64 `[M]`.
        truth: 1 for items known to be right, 0 for those known to be wrong, NaN for the others. Float64 `[I]`.
    """

    raters: tuple[str, ...]
    item: Tensor
    rater: Tensor
    score: Tensor
    truth: Tensor

    @classmethod
    def of(cls, scores: Any, truth: Any = None, raters: Sequence[str] | None = None) -> Ratings:
        """Ratings from a table with a row for each item and a column for each rater.

        Args:
            scores: `[I, K]`, a tensor, array or nested list of numbers in [0, 1]; NaN (or None) where there is none.
            truth: `[I]`, 0, 1, or NaN (or None) where it is not known. By default it is known of none.
            raters: K different names; by default "rater 0", "rater 1", ...

        Raises:
            RatingsError: shapes that do not fit, a score outside [0, 1], a truth other than 0 or 1, a repeated name.

        Examples:
            >>> Ratings.of([[1, 0.9], [0, None], [1, 0.2]], truth=[1, 0, None], raters=["Ann", "prm"])
            Ratings(3 items, 2 of known truth; 5 ratings by 'Ann', 'prm')
        """
        table, known = _numbers("scores", scores), None if truth is None else _numbers("truth", truth)
        if table.dim() != 2:
            raise RatingsError(f"scores has shape {list(table.shape)}; give a row for each item, [items, raters].")
        if known is None:
            known = torch.full(table.shape[:1], torch.nan, dtype=torch.float64)
        names = [f"rater {k}" for k in range(table.shape[1])] if raters is None else list(raters)
        if len(names) != table.shape[1]:
            raise RatingsError(f"scores has {table.shape[1]} columns, and there are {len(names)} names of raters.")
        item, rater = (~table.isnan()).nonzero(as_tuple=True)
        return cls(tuple(names), item, rater, table[item, rater], known)

    def __post_init__(self) -> None:
        if not self.raters or len(set(self.raters)) != len(self.raters):
            raise RatingsError(f"The raters are {list(self.raters)}; give at least one, and each a name of its own.")
        if not self.item.shape == self.rater.shape == self.score.shape or self.score.dim() != 1:
            raise RatingsError("item, rater and score must each have one entry for each rating.")
        within = not self.item.numel() or 0 <= int(self.item.min()) <= int(self.item.max()) < len(self.truth)
        if self.truth.dim() != 1 or not within:
            raise RatingsError(
                f"truth has shape {list(self.truth.shape)}; give one entry for each item, NaN if unknown."
            )
        if self.rater.numel() and not 0 <= int(self.rater.min()) <= int(self.rater.max()) < len(self.raters):
            raise RatingsError(f"A rating is by a rater other than the {len(self.raters)} there are, numbered from 0.")
        wrong = ~((self.score >= 0) & (self.score <= 1))
        if wrong.any():
            m = int(wrong.nonzero()[0])
            raise RatingsError(
                f"The score of item {int(self.item[m])} by {self.raters[int(self.rater[m])]!r} is "
                f"{float(self.score[m])}; scores are probabilities in [0, 1], votes 0 or 1 (of log-odds, the sigmoid)."
            )
        strange = ~(self.truth.isnan() | (self.truth == 0) | (self.truth == 1))
        if strange.any():
            i = int(strange.nonzero()[0])
            raise RatingsError(f"The truth of item {i} is {float(self.truth[i])}; it is 0, 1, or NaN where not known.")

    @property
    def num_items(self) -> int:
        """The number of items, I."""
        return len(self.truth)

    @property
    def num_raters(self) -> int:
        """The number of raters, K."""
        return len(self.raters)

    def __repr__(self) -> str:
        known = int((~self.truth.isnan()).sum())
        names = ", ".join(map(repr, self.raters))
        return f"Ratings({self.num_items} items, {known} of known truth; {len(self.score)} ratings by {names})"


def _numbers(name: str, values: Any) -> Tensor:
    """A float64 tensor, NaN for None."""
    if isinstance(values, Tensor):
        return values.detach().double().cpu()
    try:
        return torch.tensor(_without_none(values), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RatingsError(f"{name} holds something other than numbers in rows of equal length: {error}.") from error


def _without_none(values: Any) -> Any:
    if isinstance(values, list | tuple):
        return [_without_none(value) for value in values]
    if hasattr(values, "tolist"):  # NumPy, whatever its version and ours agree on
        return _without_none(values.tolist())
    return float("nan") if values is None else values
