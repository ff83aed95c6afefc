"""Batches of rows with their keys, values and pending logits, and the texts that they begin with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pyro_llm.lm.kv.rows import KVRows, take_rows
from pyro_llm.lm.kv.slots import ROOM
from pyro_llm.lm.memory import moment

if TYPE_CHECKING:
    from pyro_llm.lm.prefix_cache import PrefixCache

Key = bytes


@dataclass
class StoredBatch:
    """Rows that can be written on, and the texts that they begin with.

    Attributes:
        rows: their keys and values.
        logits: of the token after each text. Shape `[texts, vocabulary_size]`.
        index: the number of each text, by content.
        row: the row that begins with each text.
        lengths: tokens of each text, prompt included.
        adopted: texts that an earlier batch held as rows, and that rows of this one go on from.
        lent: whether the rows are being written on, so that they belong to the branches that write.
        asked: when it was made or asked for, in the order of all such moments.
    """

    rows: KVRows
    logits: Tensor
    index: dict[Key, int]
    row: list[int]
    lengths: list[int]
    adopted: set[Key] = field(default_factory=set)
    lent: bool = False
    asked: int = field(default_factory=moment)

    @classmethod
    def of_rows(cls, rows: KVRows, logits: Tensor, index: dict[Key, int], lengths: list[int]) -> StoredBatch:
        """A batch whose texts are its rows, or some of them."""
        return cls(rows, logits, index, list(range(len(rows))), lengths)

    def touch(self) -> None:
        """Note that it has been asked for."""
        self.asked = moment()

    def move(self, rows: KVRows, row: Mapping[int, int]) -> None:
        """Note where rows have gone, and forget the texts of those that are gone."""
        self.index = {key: number for key, number in self.index.items() if self.row[number] in row}
        self.rows, self.row = rows, [row.get(old, -1) for old in self.row]


@dataclass(frozen=True)
class Place:
    """Where a text is stored.

    Attributes:
        batch: the batch that has it.
        number: its number in the batch.
        key: its content.
        cache: what the batch is stored in; None, and no key either, for rows of branches.
    """

    batch: StoredBatch
    number: int
    key: Key = b""
    cache: PrefixCache | None = None

    @property
    def length(self) -> int:
        """Tokens of the text, prompt included."""
        return self.batch.lengths[self.number]


def without_waste(batch: StoredBatch) -> StoredBatch:
    """A batch that has lost texts to a later one: without those it had adopted itself, and without idle slots."""
    if batch.lent:
        return batch
    own = {key: number for key, number in batch.index.items() if key not in batch.adopted}
    if len(own) > 0.75 * len(batch.rows) or not own:
        return batch if own else StoredBatch(batch.rows, batch.logits, {}, [], [])
    places = [Place(batch, number) for number in own.values()]
    index = {key: number for number, key in enumerate(own)}
    return StoredBatch.of_rows(take(places, room=0), logits_at(places), index, [place.length for place in places])


def take(places: Sequence[Place], room: int = ROOM, given_up: Collection[KVRows] = ()) -> KVRows:
    """The texts at places as new rows, in this order, with room for so many more tokens; see `take_rows`."""
    groups = _by_batch(places)
    return take_rows(
        [(batch.rows, [batch.row[number] for number in numbers]) for batch, numbers, _ in groups],
        [index for _, _, indices in groups for index in indices],
        [place.length for place in places],
        room,
        given_up,
    )


def logits_at(places: Sequence[Place]) -> Tensor:
    """The pending logits at places. `[places, vocabulary_size]`."""
    like = places[0].batch.logits
    logits = like.new_empty(len(places), like.shape[-1])
    for batch, numbers, indices in _by_batch(places):
        logits[torch.tensor(indices, device=like.device)] = batch.logits[torch.tensor(numbers, device=like.device)]
    return logits


def _by_batch(places: Sequence[Place]) -> list[tuple[StoredBatch, list[int], list[int]]]:
    """For each batch, the texts that places name and the indices of these places."""
    groups: dict[int, tuple[StoredBatch, list[int], list[int]]] = {}
    for index, place in enumerate(places):
        _, numbers, indices = groups.setdefault(id(place.batch), (place.batch, [], []))
        numbers.append(place.number)
        indices.append(index)
    return list(groups.values())
