"""Texts that have been read, with their keys and values, found by the longest beginning that a text shares with one.

A text is tokenised whole, by a tokenizer that is not the writer's, so that what is appended may change the last tokens
before it. Token rows are compared, therefore, not texts: the cache gives whatever tokens two rows begin with alike.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pyro_llm.lm.kv.prompts import PromptSpan, blocks
from pyro_llm.lm.kv.rows import KVRows, take_rows

_TOKEN = np.dtype(">i4")  # the order of these bytes is the order of token ids


@dataclass(frozen=True, eq=False)
class ReadRows:
    """Rows that have been read.

    Attributes:
        rows: their keys and values.
        keys: the tokens of each, see `as_key`.
    """

    rows: KVRows
    keys: Sequence[bytes]


@dataclass(frozen=True)
class Beginning:
    """The first tokens of a row that has been read.

    Attributes:
        batch: where the row is.
        number: which of the batch it is.
        length: how many tokens; those of a prompt that is stored apart at least.
    """

    batch: ReadRows
    number: int
    length: int


class Beginnings:
    """Stored rows of tokens, the least recently used batches forgotten beyond a bound on their bytes.

    In the order of token rows, the row that shares the longest beginning with a given one is a neighbour of its place:
    so one binary search finds it among any number.

    Args:
        max_bytes: of keys and values. A batch that exceeds it alone is not stored.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._batches: OrderedDict[ReadRows, dict[int, int]] = OrderedDict()  # their memory; least recently used first
        self._holders: Counter[int] = Counter()  # of each piece of memory: batches share some
        self._bytes = 0
        self._sorted: list[bytes] = []
        self._stored: dict[bytes, tuple[ReadRows, int]] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of keys and values held; what batches share is counted once."""
        return self._bytes

    def longest(self, tokens: Sequence[int]) -> Beginning | None:
        """The longest stored beginning of a row that leaves at least its last token to be read, if there is one."""
        row = as_key(tokens)
        place = bisect_left(self._sorted, row)
        neighbours = self._sorted[max(place - 1, 0) : place + 1]
        key, shared = max(((key, common_length(key, row)) for key in neighbours), key=_second, default=(b"", 0))
        shared = min(shared, len(tokens) - 1)
        if shared < 1:
            return None
        batch, number = self._stored[key]
        if shared < apart(batch, number):  # the two part within a prompt
            known = self._stored.get(row[: shared * _TOKEN.itemsize])
            batch, number = known or self._begin_prompt(batch, number, shared)
        if batch in self._batches:
            self._batches.move_to_end(batch)
        return Beginning(batch, number, shared)

    def add(self, batch: ReadRows) -> None:
        """Store a batch, and forget others until the bound holds."""
        memory = pieces(batch.rows)
        if sum(memory.values()) > self._max_bytes:
            return
        self._batches[batch] = memory
        self._bytes += sum(size for piece, size in memory.items() if not self._holders[piece])
        self._holders.update(memory.keys())
        for number, key in enumerate(batch.keys):
            if key not in self._stored:
                insort(self._sorted, key)
            self._stored[key] = batch, number
        while self._bytes > self._max_bytes:
            self._forget(*self._batches.popitem(last=False))

    def _forget(self, batch: ReadRows, memory: dict[int, int]) -> None:
        self._holders.subtract(memory.keys())
        for piece, size in memory.items():
            if not self._holders[piece]:
                del self._holders[piece]
                self._bytes -= size
        for key in batch.keys:
            if key in self._stored and self._stored[key][0] is batch:
                del self._stored[key]
                del self._sorted[bisect_left(self._sorted, key)]

    def _begin_prompt(self, batch: ReadRows, number: int, length: int) -> tuple[ReadRows, int]:
        """The first tokens of a row's prompt as a prompt; it holds no memory of its own."""
        row = take_rows([(batch.rows, [number])], [0], [apart(batch, number)], room=0)
        prompts = (PromptSpan(row.prompts[0].block.first(length), 1),)
        begun = replace(row, prompts=prompts, lengths=torch.full_like(row.lengths, length))
        cut = ReadRows(begun, [batch.keys[number][: length * _TOKEN.itemsize]])
        self.add(cut)
        return cut, 0


def apart(batch: ReadRows, number: int) -> int:
    """Tokens of a row that are stored apart, as its prompt."""
    return blocks(batch.rows.prompts)[number].length if batch.rows.prompts else 0


def as_key(tokens: Sequence[int]) -> bytes:
    """A row of token ids as bytes that sort as the row does."""
    return np.asarray(tokens, dtype=_TOKEN).tobytes()


def common_length(one: bytes, other: bytes) -> int:
    """The number of tokens with which two rows begin alike."""
    tokens = min(len(one), len(other)) // _TOKEN.itemsize
    differ = np.frombuffer(one, _TOKEN, tokens) != np.frombuffer(other, _TOKEN, tokens)
    return int(differ.argmax()) if differ.any() else tokens


def pieces(rows: KVRows) -> dict[int, int]:
    """The memory that rows hold, as the bytes at each address: rows that share some name the same address."""
    storages = (tensor.untyped_storage() for tensor in rows.tensors())
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def take(beginnings: Sequence[Beginning], room: int) -> KVRows:
    """Beginnings as new rows, in this order, with room for so many more tokens."""
    groups: dict[ReadRows, list[int]] = {}
    for index, beginning in enumerate(beginnings):
        groups.setdefault(beginning.batch, []).append(index)
    return take_rows(
        [(batch.rows, [beginnings[index].number for index in chosen]) for batch, chosen in groups.items()],
        [index for chosen in groups.values() for index in chosen],
        [beginning.length for beginning in beginnings],
        room,
    )


def _second(pair: tuple[bytes, int]) -> int:
    return pair[1]
