"""What a run has read, addressed by content: batches of rows with their keys, values and pending logits.

Resampling, replaying and leaving rows out need no notice: whoever asks for rows names them by their tokens, prompt
included, and identical rows are found in one place. Only what no stored row begins with is read anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from hashlib import blake2b

import torch

from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.memory import unique_bytes
from pyro_llm.lm.stored_batch import Key, Place, StoredBatch, logits_at, without_waste

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

    def keys_from(self, begun: Sequence[int]) -> set[Key]:
        """The keys of the beginnings of the rows that are longer than so many tokens each, prompt included."""
        return {
            self.key(row, length)
            for row, begin in enumerate(begun)
            for length in range(begin + 1, self.lengths[row] + 1)
        }


@dataclass(eq=False)
class _Step:
    """Batches that are forgotten together.

    Attributes:
        name: of the step.
        batches: newer ones last.
        passed: whether some of its texts have been written on, so that the others may have been left behind.
    """

    name: object
    batches: list[StoredBatch]
    passed: bool = False

    def holds(self, texts: Container[Key]) -> bool:
        """Whether it has one of some texts, rows that are being written on apart."""
        return any(key in texts for batch in self.batches if not batch.lent for key in batch.index)


class PrefixCache:
    """Stored texts: one for each recent prompt, and those of the last few steps.

    What resampling leaves behind is kept until texts of a later step are written on.

    Args:
        kept_steps: steps whose batches are kept besides the prompts; older ones are forgotten.
    """

    def __init__(self, kept_steps: int = KEPT_STEPS) -> None:
        self._kept_steps = kept_steps
        self._steps: list[_Step] = []
        self._prompts: OrderedDict[Key, StoredBatch] = OrderedDict()

    def batches(self) -> Iterator[StoredBatch]:
        """All that is stored, newer batches first."""
        for step in reversed(self._steps):
            yield from reversed(step.batches)
        yield from reversed(self._prompts.values())

    def kv_bytes(self) -> int:
        """Bytes of keys, values and states, what several texts share counted once, and what is lent not at all."""
        return unique_bytes(tensor for batch in self.batches() if not batch.lent for tensor in batch.rows.tensors())

    def find(self, key: Key) -> Place | None:
        """Where a text is stored, if it is; newer batches first."""
        for batch in self.batches():
            if key in batch.index:
                batch.touch()
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
        of_step = next((known for known in self._steps if known.name is step), None)
        if of_step is None:
            of_step = _Step(step, [])
            self._steps.append(of_step)
        of_step.batches.append(batch)
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
        for step in self._steps:
            step.batches = list(filter(is_kept, step.batches))
        self._steps = [step for step in self._steps if step.batches]

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
        sources = [step for step in self._steps if step.holds(beginnings)]
        if sources:
            self._steps = [step for step in self._steps if step in sources or not step.passed]
        for source in sources:
            source.passed = True
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
        for step in self._steps:
            step.batches = [without_waste(old) for old in step.batches]
        self._keep_if(lambda kept: bool(kept.index))

    def _find_in_steps(self, key: Key) -> Place | None:
        batches = (batch for step in reversed(self._steps) for batch in step.batches)
        return next((Place(batch, batch.index[key]) for batch in batches if key in batch.index), None)
