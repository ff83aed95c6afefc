"""Batches of texts of like lengths, bounded in rows and in tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyro_llm.rewards.counts import check_count


@dataclass(frozen=True)
class BatchLimits:
    """What one forward pass may hold.

    Attributes:
        rows: the most texts.
        tokens: the most tokens that are read, padding included; a longer text goes alone.

    Raises:
        OptionError: a limit is no whole number, or less than 1.

    Example:
        >>> list(BatchLimits(rows=3, tokens=8).batches([5, 2, 9, 2, 1, 3]))
        [[4, 1, 3], [5], [0], [2]]
    """

    rows: int
    tokens: int

    def __post_init__(self) -> None:
        for name, limit in (("batch_size", self.rows), ("batch_tokens", self.tokens)):
            check_count(name, limit)

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Indices of texts, the shortest first, so that texts of like lengths go together.

        Args:
            lengths: the tokens that are to be read of each text.
        """
        batch: list[int] = []
        for index in sorted(range(len(lengths)), key=lengths.__getitem__):
            if batch and (len(batch) == self.rows or (len(batch) + 1) * lengths[index] > self.tokens):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch
