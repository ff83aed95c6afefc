"""Rows in a key-value cache that are being written on, token by token or many tokens at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.decoder import LogProbs
from pyro_llm.lm.kv.rows import KVRows
from pyro_llm.lm.state import PAD


@dataclass(frozen=True)
class Part:
    """Branches that ended together, or go on together.

    Attributes:
        rows: their keys and values.
        logits: of the next token. Shape `[rows, vocabulary_size]`.
        numbers: which of the branches they are.
    """

    rows: KVRows
    logits: Tensor
    numbers: list[int]


class CachedBranches:
    """Rows in a key-value cache that are being written on; see `Branches`.

    Args:
        model: reads them.
        rows: nobody else writes on them.
        logits: of the next token, `[rows, vocabulary_size]`; None for rows without a token.
        begun: tokens of each row.

    Attributes:
        rows: those that go on.
        begun: tokens that each row began with, those included that have left.
    """

    def __init__(self, model: CachedModel, rows: KVRows, logits: Tensor | None, begun: Sequence[int]) -> None:
        self._model = model
        self.begun = list(begun)
        self.rows = rows
        self._logits = logits
        self._numbers = list(range(len(self.begun)))
        self._left: list[Part] = []

    @property
    def logits(self) -> Tensor:
        """Logits of the next token of each row that goes on. Shape `[rows, vocabulary_size]`."""
        assert self._logits is not None, "rows without a token have no pending logits"
        return self._logits

    def parts(self) -> list[Part]:
        """All branches: those that have left, and those that went on to the end."""
        return [*self._left, Part(self.rows, self.logits, self._numbers)]

    def tokens_read(self) -> int:
        """Tokens read since these branches were made, padding not counted."""
        return sum(int(part.rows.lengths.sum()) for part in self.parts()) - sum(self.begun)

    def advance(self, tokens: Tensor, writing: Tensor) -> None:
        """Append a token to the rows that are writing; see `Branches`."""
        logits = self._model.logits(self.rows, tokens.unsqueeze(-1), self.rows.lengths, reading=writing)[:, -1]
        self._logits = torch.where(writing.unsqueeze(-1), logits, self.logits)
        self.rows.lengths = self.rows.lengths + writing

    def retain(self, rows: Tensor) -> None:
        """Go on with these rows only; see `Branches`."""
        staying = rows.tolist()
        leaving = sorted(set(range(len(self.rows))) - set(staying))
        chosen = torch.tensor(leaving, device=rows.device)
        self._left.append(
            Part(
                self.rows.select(chosen, leaving, room=0), self.logits[chosen], [self._numbers[row] for row in leaving]
            )
        )
        self.rows = self.rows.select(rows, staying, self.rows.room)
        self._logits = self.logits[rows]
        self._numbers = [self._numbers[row] for row in staying]

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
