"""Texts that have been read, with their keys and values, found by the longest beginning that a text shares with one.

A text is tokenised whole, by a tokenizer that is not the writer's, so that what is appended may change the last tokens
before it. Token rows are compared, therefore, not texts: the cache gives whatever tokens two rows begin with alike.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pyro_llm.lm.kv.prompts import PromptSpan, blocks
from pyro_llm.lm.kv.rows import KVRows, take_rows
from pyro_llm.lm.memory import moment

_TOKEN = np.dtype(">i4")  # the order of these bytes is the order of token ids


@dataclass(eq=False)
class ReadRows:
    """Rows that have been read.

    Attributes:
        rows: their keys and values.
        keys: the tokens of each, see `as_key`.
        asked: when they were stored or asked for.
    """

    rows: KVRows
    keys: Sequence[bytes]
    asked: int = field(default_factory=moment)


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
    """Stored rows of tokens; a `Cache` that a `Memory` bounds, by having what was asked for the longest ago forgotten.

    In the order of token rows, the row that shares the longest beginning with a given one is a neighbour of its place:
    so one binary search finds it among any number.
    """

    def __init__(self) -> None:
        self._batches: OrderedDict[ReadRows, dict[int, int]] = OrderedDict()  # their memory; least recently used first
        self._holders: Counter[int] = Counter()  # of each piece of memory: batches share some
        self._bytes = 0
        self._sorted: list[bytes] = []
        self._stored: dict[bytes, tuple[ReadRows, int]] = {}

    def kv_bytes(self) -> int:
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
            batch.asked = moment()
            self._batches.move_to_end(batch)
        return Beginning(batch, number, shared)

    def add(self, batch: ReadRows) -> None:
        """Store a batch."""
        memory = pieces(batch.rows)
        self._batches[batch] = memory
        self._bytes += sum(size for piece, size in memory.items() if not self._holders[piece])
        self._holders.update(memory.keys())
        for number, key in enumerate(batch.keys):
            if key not in self._stored:
                insort(self._sorted, key)
            self._stored[key] = batch, number

    def oldest(self) -> ReadRows | None:
        """What was stored or asked for the longest ago."""
        return next(iter(self._batches), None)

    def clear(self) -> None:
        """Forget everything."""
        for batch in list(self._batches):
            self.forget(batch)

    def forget(self, batch: ReadRows) -> None:
        """Store a batch no more; what others have of its memory stays."""
        memory = self._batches.pop(batch)
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
