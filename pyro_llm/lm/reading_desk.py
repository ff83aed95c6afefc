"""Given tokens read, and scored, for several requests in common passes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pyro_llm.lm.decoder import Decoder
from pyro_llm.lm.decoding import Decoding, restrict
from pyro_llm.lm.failures import out_of_memory
from pyro_llm.lm.language_model import LanguageModel, Prefix
from pyro_llm.lm.memory import is_out_of_memory
from pyro_llm.lm.prefixes import joined, take_prefix
from pyro_llm.lm.state import PAD
from pyro_llm.rendezvous import Request
from pyro_llm.run_scope import BudgetSpent, note_held, passes_count_for, spending_scope

Statistic = Callable[[Tensor], Tensor]
"""Of the law of a token: from log-probabilities, `[..., vocabulary_size]`, to numbers, `[...]`."""


class ReadRequest(Request[Tensor]):
    """Tokens that are to be read after each row of a prefix; the answer is a number for each, float64 `[rows, length]`.

    It is the token's log-probability, or what the desk's statistic makes of its law; 0 at padding.

    Args:
        decoder: of the run that asks.
        prefix: at least one row.
        continuation: at least one token a row, padded on the right with `PAD`. Shape `[rows, length]`.
        closed: rows that nothing will follow, so that their last token need not be read. Shape `[rows]`.
        scored: whether these numbers are wanted; if not, they are 0.
    """

    def __init__(
        self, decoder: Decoder[Any], prefix: Prefix, continuation: Tensor, closed: Tensor, scored: bool = True
    ) -> None:
        super().__init__()
        self.decoder, self.prefix, self.continuation, self.closed = decoder, prefix, continuation, closed
        self.scored = scored
        self.scope, self.step = spending_scope(), object()
        self.begun = 0
        self.values = torch.zeros(continuation.shape, dtype=torch.float64, device=continuation.device)

    def note_held(self, reading: int) -> None:
        """Note what the run holds: what its decoder has stored, and bytes of rows that are being read."""
        self.context.run(note_held, self.decoder, self.decoder.kv_bytes() + reading)


@dataclass(frozen=True)
class _Group:
    """Some rows of a request, to be read in one pass with others."""

    request: ReadRequest
    rows: Tensor

    @property
    def prefix(self) -> Prefix:
        return take_prefix(self.request.prefix, self.rows)

    @property
    def continuation(self) -> Tensor:
        return self.request.continuation[self.rows]

    @property
    def closed(self) -> Tensor:
        return self.request.closed[self.rows]


class ReadingDesk:
    """Reads, in a turn, as many rows of all requests as there is memory for.

    If memory runs out, half as many are taken at a time.

    Args:
        lm: the language model.
        decoding: by which tokens are scored.
        statistic: what is computed of the law of each token, in place of the token's log-probability.
    """

    def __init__(self, lm: LanguageModel, decoding: Decoding, statistic: Statistic | None = None) -> None:
        self._lm, self._decoding, self._statistic = lm, decoding, statistic
        self._waiting: deque[ReadRequest] = deque()

    def admit(self, request: ReadRequest) -> None:
        """Take a request; see `Service`."""
        self._waiting.append(request)

    @torch.no_grad()
    def advance(self) -> None:
        """Read for one turn; see `Service`."""
        groups: list[_Group] = []
        try:
            groups = self._groups()
            self._read(groups)
        except BudgetSpent as spent:
            for request in [request for request in self._waiting if request.scope is spent.scope]:
                self._waiting.remove(request)
                request.fail(spent)
            return
        except Exception as error:
            if not groups or not is_out_of_memory(error):
                raise
            first = groups[0].request
            memory = first.decoder.memory
            if memory.most_rows == 1:
                self._waiting.popleft()
                first.fail(out_of_memory(self._lm.name, error))
            else:
                memory.run_out(sum(len(group.rows) for group in groups))
            return
        for group in groups:
            request = group.request
            request.begun += len(group.rows)
            if request.begun == len(request.prefix):
                self._waiting.remove(request)
                request.settle(request.values)

    def _groups(self) -> list[_Group]:
        """The rows to be read now."""
        groups: list[_Group] = []
        rows = row_bytes = 0
        more = max((request.continuation.shape[-1] for request in self._waiting), default=0)  # slots of every row
        for request in self._waiting:
            decoder = request.decoder
            row_bytes = max(row_bytes, request.context.run(decoder.row_bytes, request.prefix, more))
            room = max(decoder.memory.rows_that_fit(row_bytes) - rows, 0 if rows else 1)
            end = min(len(request.prefix), request.begun + room)
            if end > request.begun:
                groups.append(_Group(request, torch.arange(request.begun, end, device=request.closed.device)))
                rows += end - request.begun
        return groups

    def _read(self, groups: list[_Group]) -> None:
        starts = [
            start for group in groups for start in group.request.context.run(group.request.decoder.starts, group.prefix)
        ]
        counts = []
        for group in groups:
            forwarded = int((group.continuation != PAD).sum() - group.closed.sum())
            read = forwarded - group.request.decoder.drawn(group.prefix, group.continuation)
            group.request.scope.claim(lm_tokens_forwarded=forwarded, lm_tokens_read=read)
            counts.append((forwarded, read))
        width = max(group.continuation.shape[-1] for group in groups)
        tokens = torch.cat(
            [pad(part, (0, width - part.shape[-1]), value=PAD) for g in groups for part in [g.continuation]]
        )
        steps = [group.request.step for group in groups for _ in range(len(group.rows))]
        branches = groups[0].request.decoder.fork(starts, width, steps)
        values = torch.zeros(tokens.shape, dtype=torch.float64, device=tokens.device)
        with passes_count_for([group.request.scope for group in groups]):
            if any(group.request.scored for group in groups):
                closed = torch.cat([group.closed for group in groups])
                values = branches.extend(tokens, closed, self._of_logits)
            else:
                branches.read(tokens)
        begin, held = 0, branches.kv_bytes()
        for group, (forwarded, read) in zip(groups, counts, strict=True):
            request, end = group.request, begin + len(group.rows)
            part = branches.select(range(begin, end), room=0)
            text, begun = joined(group.prefix, group.continuation), group.prefix.lengths.tolist()
            request.note_held(held * len(group.rows) // len(tokens))
            request.context.run(request.decoder.keep, text, part, begun, ~group.closed, request.step)
            request.note_held(0)
            request.values[group.rows] = values[begin:end, : group.continuation.shape[-1]]
            request.scope.cost.lm_tokens_forwarded += forwarded
            request.scope.cost.lm_tokens_read += read
            begin = end

    def _of_logits(self, logits: Tensor) -> Tensor:
        """A number for each token of the vocabulary, `[..., vocabulary_size]`: that of the given token is taken."""
        log_probs = restrict(logits, self._decoding)
        if self._statistic is None:
            return log_probs
        return self._statistic(log_probs).unsqueeze(-1).expand(logits.shape)
