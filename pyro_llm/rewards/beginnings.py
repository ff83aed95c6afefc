"""Texts that have been read, with their keys and values, found by the longest beginning that a text shares with one.

A text is tokenised whole, by a tokenizer that is not the writer's, so that what is appended may change the last tokens
before it. Token rows are compared, therefore, not texts: the cache gives whatever tokens two rows begin with alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pyro_llm.lm.kv_rows import KVRows
from pyro_llm.lm.prefix_cache import Place, StoredBatch

_TOKEN = np.dtype(">i4")  # the order of these bytes is the order of token ids


@dataclass(frozen=True)
class Beginning(Place):
    """The first tokens of a stored row.

    Attributes:
        shared: how many of them.
    """

    shared: int

    @property
    def length(self) -> int:
        """Tokens of the beginning."""
        return self.shared


class Beginnings:
    """Stored rows of tokens, the least recently used batches forgotten beyond a bound on their bytes.

    In the order of token rows, the row that shares the longest beginning with a given one is a neighbour of its place:
    so one binary search finds it among any number.

    Args:
        max_bytes: of keys and values. A batch that exceeds it alone is not stored.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batches: OrderedDict[int, StoredBatch] = OrderedDict()  # by identity, least recently used first
        self._sorted: list[bytes] = []
        self._stored: dict[bytes, StoredBatch] = {}

    def longest(self, tokens: Sequence[int]) -> Beginning | None:
        """The longest stored beginning of a row that leaves at least its last token to be read, if there is one."""
        row = as_key(tokens)
        place = bisect_left(self._sorted, row)
        neighbours = self._sorted[max(place - 1, 0) : place + 1]
        key, shared = max(((key, common_length(key, row)) for key in neighbours), key=_second, default=(b"", 0))
        shared = min(shared, len(tokens) - 1)
        if shared < 1:
            return None
        batch = self._stored[key]
        self._batches.move_to_end(id(batch))
        return Beginning(batch, batch.index[key], shared)

    def add(self, batch: StoredBatch) -> None:
        """Store a batch, whose index has the keys of token rows, and forget others until the bound holds."""
        if held_bytes([batch.rows]) > self._max_bytes:
            return
        self._batches[id(batch)] = batch
        self._stored |= dict.fromkeys(batch.index, batch)
        while held_bytes(stored.rows for stored in self._batches.values()) > self._max_bytes:
            self._batches.popitem(last=False)
            self._stored = {key: stored for stored in self._batches.values() for key in stored.index}
        self._sorted = sorted(self._stored)


def as_key(tokens: Sequence[int]) -> bytes:
    """A row of token ids as bytes that sort as the row does."""
    return np.asarray(tokens, dtype=_TOKEN).tobytes()


def common_length(one: bytes, other: bytes) -> int:
    """The number of tokens with which two rows begin alike."""
    tokens = min(len(one), len(other)) // _TOKEN.itemsize
    differ = np.frombuffer(one, _TOKEN, tokens) != np.frombuffer(other, _TOKEN, tokens)
    return int(differ.argmax()) if differ.any() else tokens


def held_bytes(batches: Iterable[KVRows]) -> int:
    """Bytes of keys and values, memory that several batches share counted once."""
    storages = {}
    for rows in batches:
        for layer in rows.cache.row_layers:
            for slots in (layer.keys, layer.values):
                if slots is not None:
                    storages[slots.untyped_storage().data_ptr()] = slots.untyped_storage().nbytes()
    return sum(storages.values())


def _second(pair: tuple[bytes, int]) -> int:
    return pair[1]
