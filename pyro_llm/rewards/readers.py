"""How a token classifier reads rows of tokens: whole, or only what follows a beginning that it has read before."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.kv_rows import KVRows
from pyro_llm.lm.prefix_cache import StoredBatch, take
from pyro_llm.rewards.batching import BatchLimits
from pyro_llm.rewards.beginnings import Beginning, Beginnings, as_key, common_length
from pyro_llm.run_scope import current_cost

_WORTH_A_PASS = 16  # tokens: a shorter beginning that rows share costs less in each row than in a pass of its own

Row = tuple[int, ...]


class Reader(Protocol):
    """Reads rows of tokens; what it remembers belongs to one run."""

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Hashable]) -> Tensor:
        """The logits at the last token of each row; counts the cost.

        Args:
            rows: token ids; no row is empty, and no two are equal.
            problems: what each row is about: rows on one problem begin alike.

        Returns:
            In fp32, on the model's device. Shape `[rows, labels]`.
        """
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

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Hashable]) -> Tensor:
        """Logits at the last tokens; see `Reader`."""
        return _in_batches(self._limits.batches([len(row) for row in rows]), lambda batch: self._read(rows, batch))

    def _read(self, rows: Sequence[Row], batch: list[int]) -> Tensor:
        lengths = [len(rows[index]) for index in batch]
        tokens = _padded([rows[index] for index in batch], self._padding, self._model.device)
        mask = torch.arange(tokens.shape[1]) < torch.tensor(lengths).unsqueeze(-1)
        logits = self._model(input_ids=tokens, attention_mask=mask.long().to(self._model.device)).logits
        current_cost().reward_calls += 1
        current_cost().reward_tokens += sum(lengths)
        return _at_last(logits, lengths)


class CachedReader:
    """Reads what follows the longest beginning that a row shares with any row read before.

    What the rows on one problem begin with alike is read once for all of them.

    Args:
        model: a causal token classifier.
        limits: of a forward pass.
        max_bytes: of the keys and values that are kept between calls.
        device: the model's.
    """

    def __init__(self, model: CachedModel, limits: BatchLimits, max_bytes: int, device: torch.device) -> None:
        self._model, self._limits, self._device = model, limits, device
        self._beginnings = Beginnings(max_bytes)

    def last_logits(self, rows: Sequence[Row], problems: Sequence[Hashable]) -> Tensor:
        """Logits at the last tokens; see `Reader`."""
        starts = [self._beginnings.longest(row) for row in rows]
        shared = self._shared_beginnings(rows, starts, problems)
        if shared:
            self._read_all(shared, [self._beginnings.longest(row) for row in shared])
            starts = [self._beginnings.longest(row) for row in rows]
        return self._read_all(rows, starts)

    def _shared_beginnings(
        self, rows: Sequence[Row], starts: Sequence[Beginning | None], problems: Sequence[Hashable]
    ) -> list[Row]:
        """What several rows on one problem begin with alike, and no stored row does."""
        read = [0 if start is None else start.length for start in starts]
        shared = []
        for problem in dict.fromkeys(problems):
            group = [index for index, of in enumerate(problems) if of == problem]
            first, last = (pick(rows[index] for index in group) for pick in (min, max))  # these two part first
            length = min(common_length(as_key(first), as_key(last)), len(first) - 1)
            if sum(length - read[index] >= _WORTH_A_PASS for index in group) > 1:
                shared.append(first[:length])
        return shared

    def _read_all(self, rows: Sequence[Row], starts: Sequence[Beginning | None]) -> Tensor:
        more = [len(row) - (0 if start is None else start.length) for row, start in zip(rows, starts, strict=True)]
        batches = []
        for begun in (False, True):
            chosen = [index for index, start in enumerate(starts) if (start is not None) == begun]
            for batch in self._limits.batches([more[index] for index in chosen]):
                batches.append([chosen[index] for index in batch])
        return _in_batches(batches, lambda batch: self._read(rows, starts, batch))

    def _read(self, rows: Sequence[Row], starts: Sequence[Beginning | None], batch: list[int]) -> Tensor:
        """Read rows that all have a stored beginning, or all have none, and store them."""
        begun = [start for index in batch if (start := starts[index]) is not None]
        kept = take(begun) if begun else KVRows.empty(self._model.layers, len(batch), self._device)
        before = [start.length for start in begun] or [0] * len(batch)
        rest = [rows[index][length:] for index, length in zip(batch, before, strict=True)]
        more = [len(row) for row in rest]
        logits = _at_last(self._model.forward(kept, _padded(rest, 0, self._device), kept.lengths), more)
        kept.lengths = kept.lengths + torch.tensor(more, device=self._device)
        current_cost().reward_tokens += sum(more)
        index = {as_key(rows[index]): row for row, index in enumerate(batch)}
        self._beginnings.add(StoredBatch(kept, logits, index, [len(rows[index]) for index in batch]))
        return logits


def _in_batches(batches: Iterable[list[int]], read: Callable[[list[int]], Tensor]) -> Tensor:
    """The results of batches of indices, in the order of the indices."""
    order: list[int] = []
    parts = []
    for batch in batches:
        order += batch
        parts.append(read(batch))
    joined = torch.cat(parts)
    return torch.empty_like(joined).index_copy_(0, torch.tensor(order, device=joined.device), joined)


def _padded(rows: Sequence[Row], padding: int, device: torch.device) -> Tensor:
    """Rows of tokens, filled up on the right. Shape `[rows, longest]`."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows], device=device)


def _at_last(logits: Tensor, lengths: Sequence[int]) -> Tensor:
    """The logits at the last token of each row, in fp32. `[rows, length, labels]` -> `[rows, labels]`."""
    last = torch.tensor(lengths, device=logits.device) - 1
    return logits[torch.arange(len(lengths), device=logits.device), last].float()
