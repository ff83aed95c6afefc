"""What a run has read, addressed by content: batches of rows with their keys, values and pending logits.

Resampling, replaying and leaving rows out need no notice: whoever asks for rows names them by their tokens, prompt
included, and identical rows are found in one place. Only what no stored row begins with is read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

from pyro_llm.lm.kv_rows import KVRows, take_rows
from pyro_llm.lm.language_model import Prefix

Key = bytes

KEPT_BATCHES = 3
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

    def keys(self) -> list[Key]:
        """The key of each row."""
        return [self.key(row) for row in range(len(self.lengths))]


@dataclass(frozen=True)
class StoredBatch:
    """Rows that can be written on.

    Attributes:
        rows: their keys and values.
        logits: of the next token. Shape `[rows, vocabulary_size]`.
        index: the row of each content.
        lengths: tokens of each row, prompt included.
    """

    rows: KVRows
    logits: Tensor
    index: dict[Key, int]
    lengths: list[int]


@dataclass(frozen=True)
class Place:
    """Where the content of a row is stored."""

    batch: StoredBatch
    row: int

    @property
    def length(self) -> int:
        """Tokens of the row, prompt included."""
        return self.batch.lengths[self.row]


class PrefixCache:
    """Stored rows by content: one for each recent prompt, and the last few batches.

    Args:
        kept_batches: batches that are kept besides the prompts; older ones are forgotten.
    """

    def __init__(self, kept_batches: int = KEPT_BATCHES) -> None:
        self._kept_batches = kept_batches
        self._batches: list[StoredBatch] = []
        self._prompts: OrderedDict[Key, StoredBatch] = OrderedDict()

    def find(self, key: Key) -> Place | None:
        """Where a row is stored, if it is; newer batches first."""
        for batch in (*reversed(self._batches), *self._prompts.values()):
            if key in batch.index:
                return Place(batch, batch.index[key])
        return None

    def find_longest(self, contents: Contents, row: int) -> Place | None:
        """The longest stored beginning of a row that holds the whole prompt at least, if there is one."""
        stored = {length for batch in self._batches for length in batch.lengths} | {contents.prompt_length}
        for length in sorted(stored, reverse=True):
            if contents.prompt_length <= length < contents.lengths[row]:
                place = self.find(contents.key(row, length))
                if place is not None:
                    return place
        return None

    def add(self, batch: StoredBatch) -> None:
        """Store a batch, and forget the oldest if there are too many."""
        self._batches.append(batch)
        del self._batches[: -self._kept_batches]

    def add_prompt(self, batch: StoredBatch) -> None:
        """Store the row of a prompt, and forget the oldest if there are too many."""
        (key,) = batch.index
        self._prompts[key] = batch
        while len(self._prompts) > KEPT_PROMPTS:
            self._prompts.popitem(last=False)


def take(places: Sequence[Place]) -> KVRows:
    """The rows at places as new rows, in this order."""
    groups = _by_batch(places)
    return take_rows(
        [(batch.rows, rows) for batch, rows, _ in groups],
        [index for _, _, indices in groups for index in indices],
        [place.length for place in places],
    )


def logits_at(places: Sequence[Place]) -> Tensor:
    """The pending logits at places. `[places, vocabulary_size]`."""
    like = places[0].batch.logits
    logits = like.new_empty(len(places), like.shape[-1])
    for batch, rows, indices in _by_batch(places):
        logits[torch.tensor(indices, device=like.device)] = batch.logits[torch.tensor(rows, device=like.device)]
    return logits


def _by_batch(places: Sequence[Place]) -> list[tuple[StoredBatch, list[int], list[int]]]:
    """For each batch, the rows that places name and the indices of these places."""
    groups: dict[int, tuple[StoredBatch, list[int], list[int]]] = {}
    for index, place in enumerate(places):
        _, rows, indices = groups.setdefault(id(place.batch), (place.batch, [], []))
        rows.append(place.row)
        indices.append(index)
    return list(groups.values())
