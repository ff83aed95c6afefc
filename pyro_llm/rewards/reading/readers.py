"""How a token classifier reads rows of tokens: whole, or only what follows a beginning that it has read before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pyro_llm.lm.kv.transformer import CachedTransformer
from pyro_llm.lm.prefixes import padded
from pyro_llm.rewards.reading.batching import BatchLimits
from pyro_llm.rewards.reading.beginnings import Beginning, Beginnings, ReadRows, as_key, common_length, take
from pyro_llm.run_scope import claim, current_cost

_WORTH_A_PASS = 16  # tokens: a shorter problem costs less in each row than in a pass of its own

Row = tuple[int, ...]


class Reader(Protocol):
    """Reads rows of tokens; what it remembers belongs to one run."""

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Row]) -> Tensor:
        """The logits at the last token of each row; counts the cost.

        Args:
            rows: token ids; no row is empty, and no two are equal.
            problems: the tokens of the problem alone that each row is about; most of them begin the row.

        Returns:
            In fp32, on the model's device. Shape `[rows, labels]`.
        """
        ...

    def forget(self) -> None:
        """Free what is remembered: memory has run out."""
        ...


class WholeReader:
    """Reads every row from its first token, as a bidirectional model must.

    Args:
        model: a token classifier.
        padding: the token id that fills rows up.
        limits: of a forward pass.
    """

    def __init__(self, model: PreTrainedModel, padding: int, limits: BatchLimits) -> None:
        self._model, self._padding, self._limits = model, padding, limits

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Row]) -> Tensor:
        """Logits at the last tokens; see `Reader`."""
        batches = self._limits.batches([len(row) for row in rows])
        return _in_order([(batch, self._read([rows[index] for index in batch])) for batch in batches])

    def forget(self) -> None:
        """Nothing is remembered; see `Reader`."""

    def _read(self, rows: Sequence[Row]) -> Tensor:
        lengths = [len(row) for row in rows]
        claim(reward_calls=1, reward_tokens=sum(lengths))
        tokens = padded(rows, self._model.device, self._padding)
        mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths).unsqueeze(-1)
        logits = self._model(input_ids=tokens, attention_mask=mask.long().to(self._model.device)).logits
        current_cost().reward_calls += 1
        current_cost().reward_tokens += sum(lengths)
        return _at_last(logits, lengths)


class CachedReader:
    """Reads what follows the longest beginning that a row shares with any row read before.

    A problem is read with the first row on it, and stored apart, once for all rows, where the attention allows it.

    Args:
        model: a causal token classifier.
        limits: of a forward pass.
        max_bytes: of the keys and values that are kept between calls.
        device: the model's.
    """

    def __init__(self, model: CachedTransformer, limits: BatchLimits, max_bytes: int, device: torch.device) -> None:
        self._model, self._limits, self._device, self._max_bytes = model, limits, device, max_bytes
        self._beginnings = Beginnings(max_bytes)

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Row]) -> Tensor:
        """Logits at the last tokens; see `Reader`."""
        first = self._first_on_problems(rows, problems)
        parts = [([index], self._read([rows[index]], [None], problem)) for index, problem in first.items()]
        rest = [index for index in range(len(rows)) if index not in first]
        starts = {index: self._beginnings.longest(rows[index]) for index in rest}
        for batch in self._batches(rows, starts):
            parts.append((batch, self._read([rows[index] for index in batch], [starts[index] for index in batch])))
        return _in_order(parts)

    def forget(self) -> None:
        """Free the keys and values; what is asked for is read anew. See `Reader`."""
        self._beginnings = Beginnings(self._max_bytes)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

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

    def _batches(self, rows: Sequence[Row], starts: Mapping[int, Beginning | None]) -> Iterator[list[int]]:
        """Rows that go together: none of them begun, all with their prompts apart, or all with prompts of their own."""
        kinds: dict[object, list[int]] = {}
        for index, start in starts.items():
            kinds.setdefault(start and bool(start.batch.rows.prompts), []).append(index)
        for chosen in kinds.values():
            for batch in self._limits.batches([len(rows[index]) - _length(starts[index]) for index in chosen]):
                yield sorted((chosen[index] for index in batch), key=rows.__getitem__)  # those of one prompt together

    def _read(self, rows: Sequence[Row], starts: Sequence[Beginning | None], problem: int | None = None) -> Tensor:
        """Read the rest of rows that go together, and store them.

        Args:
            rows: their tokens.
            starts: where each is read from.
            problem: of a single row that is read from nothing, the tokens to store apart, for others to start from.

        Returns:
            The logits at the last token of each.
        """
        rest = [row[_length(start) :] for row, start in zip(rows, starts, strict=True)]
        more = [len(row) for row in rest]
        claim(reward_calls=1, reward_tokens=sum(more))
        begun = [start for start in starts if start is not None]
        kept = take(begun, room=max(more)) if begun else self._model.empty(len(rows), self._device)
        logits = self._model.forward(kept, padded(rest, self._device, padding=0), kept.lengths).logits
        kept.lengths = kept.lengths + torch.tensor(more, device=self._device)
        current_cost().reward_calls += 1
        current_cost().reward_tokens += sum(more)
        if problem is not None:
            kept = self._model.settle_prompt(kept, problem)
        self._beginnings.add(ReadRows(kept, [as_key(row) for row in rows]))
        return _at_last(logits, more)


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
