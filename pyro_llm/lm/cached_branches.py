"""Rows in a key-value cache that are being written on, token by token or many tokens at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.decoder import LogProbs
from pyro_llm.lm.kv.rows import KVRows
from pyro_llm.lm.memory import unique_bytes
from pyro_llm.lm.state import PAD
from pyro_llm.lm.stored_batch import Place, StoredBatch


class CachedBranches:
    """Rows in a key-value cache that are being written on; see `Branches`.

    Args:
        model: reads them.
        rows: nobody else writes on them.
        logits: of the next token, `[rows, vocabulary_size]`; None for rows without a token.

    Attributes:
        rows: their keys and values.
        lent: texts that rows begin with, lent by caches in which they can still be found.
    """

    def __init__(self, model: CachedModel, rows: KVRows, logits: Tensor | None) -> None:
        self._model = model
        self.rows = rows
        self._logits = logits
        self.lent: list[StoredBatch] = []

    @property
    def logits(self) -> Tensor:
        """Logits of the next token of each row. Shape `[rows, vocabulary_size]`."""
        assert self._logits is not None, "rows without a token have no pending logits"
        return self._logits

    def advance(self, tokens: Tensor, writing: Tensor) -> None:
        """Append a token to the rows that are writing; see `Branches`."""
        logits = self._model.logits(self.rows, tokens.unsqueeze(-1), self.rows.lengths, reading=writing)[:, -1]
        self._logits = torch.where(writing.unsqueeze(-1), logits, self.logits)
        self.rows.lengths = self.rows.lengths + writing

    def select(self, rows: Sequence[int], room: int) -> CachedBranches:
        """Some of the rows; see `Branches`."""
        if list(rows) == list(range(len(self.rows))):
            return self
        chosen = torch.tensor(rows, device=self.logits.device)
        return CachedBranches(self._model, self.rows.select(chosen, rows, room), self.logits[chosen])

    def keep_only(self, rows: Sequence[int], room: int) -> None:
        """Go on with some of the rows; see `Branches`."""
        chosen = torch.tensor(rows, dtype=torch.long, device=self.logits.device)
        self.rows = self.rows.select(chosen, rows, room, given_up=True) if len(rows) else self.rows.nothing()
        self._logits = self.logits[chosen]
        self.take_over(self, {old: new for new, old in enumerate(rows)})

    def take_over(self, ended: CachedBranches, row: Mapping[int, int]) -> None:
        """Have what was lent to branches that have ended; `row` says what has become of their rows."""
        for batch in ended.lent:
            batch.move(self.rows, row)
        if ended is not self:
            self.lent, ended.lent = [*self.lent, *ended.lent], []

    def starts(self) -> list[Place]:
        """The rows as texts to go on from; see `Branches`. The host waits for their lengths."""
        batch = StoredBatch.of_rows(self.rows, self.logits, {}, self.rows.lengths.tolist())
        return [Place(batch, row) for row in range(len(self.rows))]

    def kv_bytes(self) -> int:
        """Bytes of keys, values and states; see `Branches`."""
        return unique_bytes(self.rows.tensors())

    def extend(self, tokens: Tensor, closed: Tensor, log_probs: LogProbs) -> Tensor:
        """Append given tokens and score each; see `Branches`.

        One forward pass, or several where the logits of all positions together would be very large, or where rows of a
        recurrent model end.
        """
        lengths = (tokens != PAD).sum(-1)
        read = lengths - closed.long()
        given = tokens.clamp(min=0)
        scores = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        first = log_probs(self.logits).gather(-1, given[:, :1])
        scores[:, :1] = torch.where(tokens[:, :1] != PAD, first.double(), 0.0)
        before = self.rows.lengths
        for begin, end in self._model.segments(read.tolist(), self._model.longest_pass(len(tokens))):
            logits = self._model.logits(self.rows, given[:, begin:end], before + begin, reading=read >= end)
            following = given[:, begin + 1 : end + 1]
            terms = log_probs(logits[:, : following.shape[1]]).gather(-1, following.unsqueeze(-1)).squeeze(-1)
            is_token = tokens[:, begin + 1 : end + 1] != PAD
            scores[:, begin + 1 : end + 1] = torch.where(is_token, terms.double(), 0.0)
            last = (read - 1 - begin).clamp(0, end - begin - 1)
            at_last = logits.gather(1, last[:, None, None].expand(-1, 1, logits.shape[-1])).squeeze(1)
            is_last = (read > begin) & (read <= end)
            self._logits = torch.where(is_last.unsqueeze(-1), at_last, self.logits)
        self.rows.lengths = before + read
        return scores

    def read(self, tokens: Tensor) -> None:
        """Append given tokens, padded on the right, without scoring them; only the last logits are computed."""
        lengths = (tokens != PAD).sum(-1)
        given, before = tokens.clamp(min=0), self.rows.lengths
        for begin, end in self._model.segments(lengths.tolist(), tokens.shape[1], fresh=self._logits is None):
            reading = lengths >= end
            lasts, index = (lengths.clamp(max=end) - 1 - begin).clamp(min=0).unique(return_inverse=True)
            logits = self._model.logits(self.rows, given[:, begin:end], before + begin, reading, positions=lasts)
            logits = logits[torch.arange(len(tokens), device=tokens.device), index]
            is_new = (lengths > begin).unsqueeze(-1)
            self._logits = logits if self._logits is None else torch.where(is_new, logits, self._logits)
        self.rows.lengths = before + lengths
