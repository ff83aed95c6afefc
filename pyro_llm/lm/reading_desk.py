"""Given tokens read, and scored, for several requests in common passes."""

from __future__ import annotations

from collections import deque
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
from pyro_llm.run_scope import BudgetSpent, passes_count_for, spending_scope


class ReadRequest(Request[Tensor]):
    """Tokens that are to be read after each row of a prefix; the answer is their log-probability, float64 `[rows]`.

    Args:
        decoder: of the run that asks.
        prefix: at least one row.
        continuation: at least one token a row, padded on the right with `PAD`. Shape `[rows, length]`.
        closed: rows that nothing will follow, so that their last token need not be read. Shape `[rows]`.
        scored: whether the log-probability is wanted; if not, the answer is 0.
    """

    def __init__(
        self, decoder: Decoder[Any], prefix: Prefix, continuation: Tensor, closed: Tensor, scored: bool = True
    ) -> None:
        super().__init__()
        self.decoder, self.prefix, self.continuation, self.closed = decoder, prefix, continuation, closed
        self.scored = scored
        self.scope, self.step = spending_scope(), object()
        self.begun = 0
        self.log_prob = torch.zeros(len(prefix), dtype=torch.float64, device=prefix.tokens.device)


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
    """

    def __init__(self, lm: LanguageModel, decoding: Decoding) -> None:
        self._lm, self._decoding = lm, decoding
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
                request.settle(request.log_prob)

    def _groups(self) -> list[_Group]:
        """The rows to be read now."""
        groups: list[_Group] = []
        rows = row_bytes = 0
        for request in self._waiting:
            decoder, more = request.decoder, request.continuation.shape[-1]
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
        read = [int((group.continuation != PAD).sum() - group.closed.sum()) for group in groups]
        for group, count in zip(groups, read, strict=True):
            group.request.scope.claim(lm_tokens_forwarded=count)
        width = max(group.continuation.shape[-1] for group in groups)
        tokens = torch.cat(
            [pad(part, (0, width - part.shape[-1]), value=PAD) for g in groups for part in [g.continuation]]
        )
        steps = [group.request.step for group in groups for _ in range(len(group.rows))]
        branches = groups[0].request.decoder.fork(starts, width, steps)
        scores = torch.zeros(len(tokens), dtype=torch.float64, device=tokens.device)
        with passes_count_for([group.request.scope for group in groups]):
            if any(group.request.scored for group in groups):
                closed = torch.cat([group.closed for group in groups])
                scores = branches.extend(tokens, closed, lambda logits: restrict(logits, self._decoding)).sum(-1)
            else:
                branches.read(tokens)
        begin = 0
        for group, count in zip(groups, read, strict=True):
            request, end = group.request, begin + len(group.rows)
            part = branches.select(range(begin, end), room=0)
            text, begun = joined(group.prefix, group.continuation), group.prefix.lengths.tolist()
            request.context.run(request.decoder.keep, text, part, begun, ~group.closed, request.step)
            request.log_prob[group.rows] = scores[begin:end]
            request.scope.cost.lm_tokens_forwarded += count
            begin = end
