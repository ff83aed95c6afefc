"""How a token classifier reads rows of tokens: whole, or only what follows a beginning that it has read before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pyro_llm.lm.failures import out_of_memory
from pyro_llm.lm.kv.transformer import CachedTransformer
from pyro_llm.lm.memory import Memory, RowSize, is_out_of_memory
from pyro_llm.lm.prefixes import padded
from pyro_llm.rewards.reading.batching import BatchLimits
from pyro_llm.rewards.reading.beginnings import Beginning, Beginnings, ReadRows, apart, as_key, common_length, take
from pyro_llm.run_scope import claim, current_cost, note_held

_WORTH_A_PASS = 16  # tokens: a shorter problem costs less in each row than in a pass of its own

Row = tuple[int, ...]


class Reader(ABC):
    """Reads rows of tokens, as many in a pass as there is memory for; what it remembers belongs to one run.

    If memory runs out, what is remembered is forgotten, and half as many rows are read at a time.

    Args:
        name: of the reward, for messages.
        limits: of a forward pass.
        memory: bounds what is stored between passes, and the rows that are read at a time.
    """

    def __init__(self, name: str, limits: BatchLimits, memory: Memory) -> None:
        self._name, self._limits, self._memory = name, limits, memory

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Row]) -> Tensor:
        """The logits at the last token of each row; counts the cost.

        Args:
            rows: token ids; no row is empty, and no two are equal.
            problems: the tokens of the problem alone that each row is about; most of them begin the row.

        Returns:
            In fp32, on the model's device. Shape `[rows, labels]`.

        Raises:
            OutOfMemoryError: there is not enough memory for a single row.
        """
        alone = self._first_on_problems(rows, problems)
        left = [*alone, *(index for index in range(len(rows)) if index not in alone)]
        parts: list[tuple[list[int], Tensor]] = []
        while left:
            batch = left[:1] if left[0] in alone else self._batch(rows, left)
            try:
                parts.append((batch, self._read(rows, batch, alone.get(batch[0]))))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                if self._memory.most_rows == 1:
                    raise out_of_memory(self._name, error) from error
                self._memory.run_out(len(batch))
            else:
                left = [index for index in left if index not in set(batch)]
        return _in_order(parts)

    def _first_on_problems(self, rows: Sequence[Row], problems: Sequence[Row]) -> dict[int, int]:
        """Rows to be read alone, before the others, and how many tokens of each others begin with."""
        return {}

    @abstractmethod
    def _batch(self, rows: Sequence[Row], left: Sequence[int]) -> list[int]:
        """Which of the rows that are left to be read next, in one pass."""

    @abstractmethod
    def _read(self, rows: Sequence[Row], batch: Sequence[int], shared: int | None) -> Tensor:
        """Read some rows; returns the logits at the last token of each.

        Args:
            rows: all of them.
            batch: which to read.
            shared: of a single row that is read from nothing, the first tokens, which others will start from.
        """


class WholeReader(Reader):
    """Reads every row from its first token, as a bidirectional model must.

    Args:
        model: a token classifier.
        padding: the token id that fills rows up.
        name: see `Reader`.
        limits: see `Reader`.
        memory: see `Reader`.
    """

    def __init__(self, model: PreTrainedModel, padding: int, name: str, limits: BatchLimits, memory: Memory) -> None:
        super().__init__(name, limits, memory)
        self._model, self._padding = model, padding

    def _batch(self, rows: Sequence[Row], left: Sequence[int]) -> list[int]:
        batch = next(self._limits.batches([len(rows[index]) for index in left]))
        return [left[place] for place in batch[: self._memory.rows_that_fit(0)]]

    def _read(self, rows: Sequence[Row], batch: Sequence[int], shared: int | None) -> Tensor:
        lengths = [len(rows[index]) for index in batch]
        tokens = padded([rows[index] for index in batch], self._model.device, self._padding)
        mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths).unsqueeze(-1)
        claim(reward_calls=1, reward_tokens=sum(lengths))
        logits = self._model(input_ids=tokens, attention_mask=mask.long().to(self._model.device)).logits
        current_cost().reward_calls += 1
        current_cost().reward_tokens += sum(lengths)
        return _at_last(logits, lengths)


class CachedReader(Reader):
    """Reads what follows the longest beginning that a row shares with any row read before.

    A problem is read with the first row on it, and stored apart, once for all rows, where the attention allows it.

    Args:
        model: a causal token classifier.
        name: see `Reader`.
        limits: see `Reader`.
        memory: see `Reader`.
    """

    def __init__(self, model: CachedTransformer, name: str, limits: BatchLimits, memory: Memory) -> None:
        super().__init__(name, limits, memory)
        self._model, self._device = model, model.device
        self._beginnings = memory.watch(Beginnings())

    def _first_on_problems(self, rows: Sequence[Row], problems: Sequence[Row]) -> dict[int, int]:
        """A row on each problem not read yet, and how many of the problem's tokens all rows on it begin with."""
        groups: dict[Row, list[int]] = {}
        for index, problem in enumerate(problems):
            groups.setdefault(problem, []).append(index)
        first = {}
        for problem, group in groups.items():
            shared = min(min(common_length(as_key(problem), as_key(rows[i])), len(rows[i]) - 1) for i in group)
            read, least = min((_length(self._beginnings.longest(rows[index])), index) for index in group)
            if shared - read >= _WORTH_A_PASS:
                first[least] = shared
        return first

    def _batch(self, rows: Sequence[Row], left: Sequence[int]) -> list[int]:
        """Rows that go together: none of them begun, all with their prompts apart, or all with prompts of their own."""
        starts = {index: self._beginnings.longest(rows[index]) for index in left}
        kinds: dict[object, list[int]] = {}
        for index, start in starts.items():
            kinds.setdefault(start and bool(start.batch.rows.prompts), []).append(index)
        chosen = next(iter(kinds.values()))
        more = [len(rows[index]) - _length(starts[index]) for index in chosen]
        batch = next(self._limits.batches(more))
        size = self._model.row_size or self._measured(rows[chosen[0]][:1])
        # Rows end together where they begin to be read, so each has slots for the longest start and the longest rest.
        begun = max(_length(starts[chosen[place]]) - _apart(starts[chosen[place]]) for place in batch)
        longest = max(more[place] for place in batch)
        batch = batch[: self._memory.rows_that_fit(size.bytes(begun + longest, longest))]
        return sorted((chosen[place] for place in batch), key=rows.__getitem__)  # those of one prompt together

    def _measured(self, tokens: Row) -> RowSize:
        """What a row takes, by a pass that counts for no run: the first run costs what later ones do."""
        kept = self._model.empty(1, self._device)
        logits = self._model.forward(kept, padded([tokens], self._device, padding=0), kept.lengths).logits
        size = RowSize.of(kept, logits[:, -1])
        self._model.row_size = replace(size, of_read=logits.shape[-1] * logits.element_size())
        return self._model.row_size

    def _read(self, rows: Sequence[Row], batch: Sequence[int], shared: int | None) -> Tensor:
        """Read the rest of rows that go together, and store them; see `Reader`."""
        of_batch = [rows[index] for index in batch]
        starts = [None if shared is not None else self._beginnings.longest(row) for row in of_batch]
        rest = [row[_length(start) :] for row, start in zip(of_batch, starts, strict=True)]
        more = [len(row) for row in rest]
        claim(reward_calls=1, reward_tokens=sum(more))
        begun = [start for start in starts if start is not None]
        kept = take(begun, room=max(more)) if begun else self._model.empty(len(batch), self._device)
        logits = self._model.forward(kept, padded(rest, self._device, padding=0), kept.lengths).logits
        kept.lengths = kept.lengths + torch.tensor(more, device=self._device)
        current_cost().reward_calls += 1
        current_cost().reward_tokens += sum(more)
        if shared is not None:
            kept = self._model.settle_prompt(kept, shared)
        self._beginnings.add(ReadRows(kept, [as_key(row) for row in of_batch]))
        note_held(self, self._beginnings.kv_bytes())
        self._memory.forget_oldest()
        note_held(self, self._beginnings.kv_bytes())
        return _at_last(logits, more)


def _apart(start: Beginning | None) -> int:
    """Tokens at the beginning of a row that it has in no slots of its own."""
    return 0 if start is None else apart(start.batch, start.number)


def _length(start: Beginning | None) -> int:
    return 0 if start is None else start.length


def _in_order(parts: Sequence[tuple[list[int], Tensor]]) -> Tensor:
    """The results of batches of rows, in the order of the rows."""
    joined = torch.cat([results for _, results in parts])
    order = torch.tensor([index for batch, _ in parts for index in batch], device=joined.device)
    return torch.empty_like(joined).index_copy_(0, order, joined)


def _at_last(logits: Tensor, lengths: Sequence[int]) -> Tensor:
    """The logits at the last token of each row, in fp32. `[rows, length, labels]` -> `[rows, labels]`."""
    last = torch.tensor(lengths, device=logits.device) - 1
    return logits[torch.arange(len(lengths), device=logits.device), last].float()
