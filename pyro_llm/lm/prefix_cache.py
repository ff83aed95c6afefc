"""What a run has read, addressed by content: batches of rows with their keys, values and pending logits.

Resampling, replaying and leaving rows out need no notice: whoever asks for rows names them by their tokens, prompt
included, and identical rows are found in one place. Only what no stored row begins with is read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count

import torch
from torch import Tensor

from pyro_llm.lm.kv.rows import KVRows, take_rows
from pyro_llm.lm.kv.slots import ROOM
from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.memory import unique_bytes

Key = bytes

_clock = count()

KEPT_STEPS = 3
KEPT_PROMPTS = 8


class Contents:
    """The rows of a prefix on the host, as keys. One copy to the host.

    Attributes:
        prompt_length: tokens of the prompt.
        lengths: tokens of each row, prompt included.
    """

    def __init__(self, prefix: Prefix) -> None:
        self._prompt = blake2b(prefix.prompt_tokens.cpu().numpy().tobytes(), digest_size=16)
        self._tokens = prefix.tokens.cpu().numpy()
        self.prompt_length = len(prefix.prompt_tokens)
        self.lengths = [self.prompt_length + length for length in prefix.lengths.tolist()]

    def key(self, row: int, length: int | None = None) -> Key:
        """The key of a row, or of its first `length` tokens, prompt included."""
        digest = self._prompt.copy()
        digest.update(self._tokens[row, : (length or self.lengths[row]) - self.prompt_length].tobytes())
        return digest.digest()

    def of_rows(self, rows: Sequence[int]) -> Contents:
        """Those of some rows."""
        chosen = copy(self)
        chosen._tokens, chosen.lengths = self._tokens[list(rows)], [self.lengths[row] for row in rows]
        return chosen

    def keys(self) -> list[Key]:
        """The key of each row."""
        return [self.key(row) for row in range(len(self.lengths))]


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
    asked: int = field(default_factory=lambda: next(_clock))

    @classmethod
    def of_rows(cls, rows: KVRows, logits: Tensor, index: dict[Key, int], lengths: list[int]) -> StoredBatch:
        """A batch whose texts are its rows, or some of them."""
        return cls(rows, logits, index, list(range(len(rows))), lengths)


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


class PrefixCache:
    """Stored texts: one for each recent prompt, and those of the last few steps.

    Args:
        kept_steps: steps whose batches are kept besides the prompts; older ones are forgotten.
    """

    def __init__(self, kept_steps: int = KEPT_STEPS) -> None:
        self._kept_steps = kept_steps
        self._steps: list[tuple[object, list[StoredBatch]]] = []
        self._prompts: OrderedDict[Key, StoredBatch] = OrderedDict()

    def batches(self) -> Iterator[StoredBatch]:
        """All that is stored, newer batches first."""
        for _, step in reversed(self._steps):
            yield from reversed(step)
        yield from reversed(self._prompts.values())

    def kv_bytes(self) -> int:
        """Bytes of keys, values and states, what several texts share counted once, and what is lent not at all."""
        return unique_bytes(tensor for batch in self.batches() if not batch.lent for tensor in batch.rows.tensors())

    def find(self, key: Key) -> Place | None:
        """Where a text is stored, if it is; newer batches first."""
        for batch in self.batches():
            if key in batch.index:
                batch.asked = next(_clock)
                return Place(batch, batch.index[key], key, self)
        return None

    def find_longest(self, contents: Contents, row: int) -> Place | None:
        """The longest stored beginning of a row that holds the whole prompt at least, if there is one."""
        stored = {batch.lengths[number] for batch in self.batches() for number in batch.index.values()}
        for length in sorted(stored, reverse=True):
            if contents.prompt_length <= length < contents.lengths[row]:
                place = self.find(contents.key(row, length))
                if place is not None:
                    return place
        return None

    def add(self, batch: StoredBatch, step: object) -> None:
        """Store a batch of a step, and forget the oldest step if there are too many."""
        of_step = next((batches for known, batches in self._steps if known is step), None)
        if of_step is None:
            of_step = []
            self._steps.append((step, of_step))
        of_step.append(batch)
        del self._steps[: -self._kept_steps]

    def add_prompt(self, batch: StoredBatch) -> None:
        """Store the row of a prompt, and forget the oldest if there are too many."""
        (key,) = batch.index
        self._prompts[key] = batch
        while len(self._prompts) > KEPT_PROMPTS:
            self._prompts.popitem(last=False)

    def oldest(self) -> StoredBatch | None:
        """What was stored or asked for the longest ago, and is not lent."""
        batches = (batch for batch in self.batches() if not batch.lent)
        return min(batches, key=lambda batch: batch.asked, default=None)

    def forget(self, batch: StoredBatch) -> None:
        """Store a batch no more: its texts are read again if they are asked for."""
        self._keep_if(lambda kept: kept is not batch)
        self._prompts = OrderedDict((key, kept) for key, kept in self._prompts.items() if kept is not batch)

    def clear(self) -> None:
        """Forget everything."""
        self._steps.clear()
        self._prompts.clear()

    def _keep_if(self, is_kept: Callable[[StoredBatch], bool]) -> None:
        steps = [(step, list(filter(is_kept, batches))) for step, batches in self._steps]
        self._steps = [(step, batches) for step, batches in steps if batches]

    def lend(self, beginnings: Mapping[Key, int], step: object) -> StoredBatch | None:
        """Take texts out of their steps, for rows that begin with them and are now written on.

        So what the rows are written from is not in memory twice, and can be found all the same.

        Args:
            beginnings: texts, and the row that begins with each.
            step: of what is written.

        Returns:
            The texts of them that earlier steps had, their rows still to come; None if there are none.
        """
        stored = next((batch for batch in self.batches()), None)
        if stored is None:
            return None
        batch = StoredBatch(stored.rows.nothing(), stored.logits[:0], {}, [], [], lent=True)
        self.adopt(batch, beginnings)
        if not batch.index:
            return None
        self.add(batch, step)
        return batch

    def adopt(self, batch: StoredBatch, beginnings: Mapping[Key, int]) -> None:
        """Let stored texts of earlier steps be beginnings of the rows of a batch: their own slots can then go.

        Args:
            batch: not added yet.
            beginnings: texts, and the row of the batch that begins with each.
        """
        found = {key: place for key in beginnings if (place := self._find_in_steps(key)) is not None}
        if not found:
            return
        batch.logits = torch.cat([batch.logits, logits_at(list(found.values()))])
        for key, place in found.items():
            batch.index.setdefault(key, len(batch.row))
            batch.row.append(beginnings[key])
            batch.lengths.append(place.length)
            del place.batch.index[key]
        batch.adopted |= found.keys()
        self._steps = [(step, [_without_waste(old) for old in batches]) for step, batches in self._steps]
        self._keep_if(lambda kept: bool(kept.index))

    def _find_in_steps(self, key: Key) -> Place | None:
        batches = (batch for _, step in reversed(self._steps) for batch in step)
        return next((Place(batch, batch.index[key]) for batch in batches if key in batch.index), None)


def _without_waste(batch: StoredBatch) -> StoredBatch:
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
