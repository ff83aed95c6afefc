"""Scores that outlive a run, up to so many."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)


class KeptScores(Generic[Item]):
    """Scores by item, of which those that were not asked for the longest go first.

    Args:
        size: the most scores that are kept.

    Example:
        >>> kept = KeptScores(size=2)
        >>> kept.keep({"a": 0.1, "b": 0.2})
        >>> kept.known(["a"])
        {'a': 0.1}
        >>> kept.keep({"c": 0.3})
        >>> kept.known(["a", "b", "c"])
        {'a': 0.1, 'c': 0.3}
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._scores: OrderedDict[Item, float] = OrderedDict()  # a dict finds its first key slowly after deletions

    def known(self, items: Iterable[Item]) -> dict[Item, float]:
        """Scores of those of the items that are kept, which are now those asked for last."""
        known = {item: self._scores[item] for item in items if item in self._scores}
        for item in known:
            self._scores.move_to_end(item)
        return known

    def keep(self, scores: Mapping[Item, float]) -> None:
        """Keep scores that have come in."""
        self._scores.update(scores)
        while len(self._scores) > self.size:
            self._scores.popitem(last=False)

    def copy(self) -> KeptScores[Item]:
        """The same scores, kept apart from these."""
        copied: KeptScores[Item] = KeptScores(self.size)
        copied.keep(self._scores)
        return copied

    def __len__(self) -> int:
        """How many scores are kept."""
        return len(self._scores)
