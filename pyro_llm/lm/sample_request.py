"""Tokens that a run asks for, and whether its budget allows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pyro_llm.lm.decoder import Decoder
from pyro_llm.lm.drawing import Drawing
from pyro_llm.lm.language_model import Continuation, Prefix, SamplingKey
from pyro_llm.lm.prefixes import joined, take_prefix
from pyro_llm.lm.state import PAD
from pyro_llm.rendezvous import Request
from pyro_llm.run_scope import BudgetSpent, note_held, spending_scope


@dataclass(frozen=True)
class Tally:
    """Tokens of a request that are not in the cost of its run yet, when the host looked at a turn of the pool.

    Attributes:
        sampled: tokens drawn.
        forwarded: those of them that were read.
        going_on: rows that draw one more in each turn, at most.
        turn: when that was so.
    """

    sampled: int
    forwarded: int
    going_on: int
    turn: int


class SampleRequest(Request[Continuation]):
    """Tokens that are to be drawn after each row of a prefix.

    Args:
        decoder: of the run that asks.
        prefix: at least one row.
        key: names the uniforms.
        max_tokens: of the step.
    """

    def __init__(self, decoder: Decoder[Any], prefix: Prefix, key: SamplingKey, max_tokens: int) -> None:
        super().__init__()
        self.decoder, self.prefix, self.key = decoder, prefix, key
        self.scope, self.step = spending_scope(), object()
        self.unfinished = len(prefix)
        self.tokens = prefix.tokens.new_full((len(prefix), max_tokens), PAD)
        self.log_prob = torch.zeros(len(prefix), dtype=torch.float64, device=prefix.tokens.device)
        self.tally: Tally | None = None  # the last; None when rows have come in since
        self._may_read_all = True

    def note_peak(self, writing: int) -> None:
        """Note what the run holds now: what its decoder has stored, and bytes of rows that are being written."""
        self.context.run(note_held, self.decoder, self.decoder.kv_bytes() + writing)
        if self.prefix.tokens.is_cuda:
            in_use = torch.cuda.max_memory_allocated(self.prefix.tokens.device)
            self.scope.cost.peak_device_bytes = max(self.scope.cost.peak_device_bytes, in_use)

    def may_draw(self, turn: int, count: Callable[[], Tally]) -> bool:
        """Whether the budget of the run allows that each row draws a token.

        As long as it allows what the rows that went on at the last tally can have drawn since, the host does not wait
        for an accelerator to tell how many went on.

        Args:
            turn: of the pool.
            count: makes the tally; waits for the device.
        """
        if self.scope.budget is None:
            return True
        if self.tally is not None and self._allows_reading(turn):
            return True
        self.tally = tally = count()
        if self._allows_reading(turn):
            return True
        return self._claim(tally.sampled + tally.going_on, tally.forwarded)

    def may_read(self, count: Callable[[], Tally]) -> bool:
        """Whether it allows, now that tokens are drawn, that they are read too.

        Args:
            count: makes a tally in which those that are to be read count as read; waits for the device.
        """
        if self._may_read_all:
            return True
        self.tally = None
        tally = count()
        return self._claim(tally.sampled, tally.forwarded)

    def _allows_reading(self, turn: int) -> bool:
        """Whether each row may both draw a token and, whatever it is, read it."""
        assert self.tally is not None
        more = self.tally.going_on * (turn + 1 - self.tally.turn)
        sampled, forwarded = self.tally.sampled + more, self.tally.forwarded + more
        self._may_read_all = self.scope.allows(lm_calls=1, lm_tokens_sampled=sampled, lm_tokens_forwarded=forwarded)
        return self._may_read_all

    def _claim(self, sampled: int, forwarded: int) -> bool:
        try:
            self.scope.claim(lm_calls=1, lm_tokens_sampled=sampled, lm_tokens_forwarded=forwarded)
        except BudgetSpent:
            return False
        return True


@dataclass
class DrawnRows:
    """Rows of one request, with what has been drawn for them."""

    request: SampleRequest
    rows: list[int]
    drawing: Drawing

    def text(self) -> Prefix:
        """What the rows say now."""
        index = torch.tensor(self.rows, dtype=torch.long, device=self.request.prefix.tokens.device)
        return joined(take_prefix(self.request.prefix, index), self.drawing.tokens[:, :-1])

    def starts(self) -> Sequence[Any]:
        """Where the decoder of the request has them; what it does not know it reads now, for that run."""
        return self.request.context.run(self.request.decoder.starts, self.text())

    def select(self, numbers: list[int]) -> DrawnRows:
        """Some of the rows."""
        index = torch.tensor(numbers, dtype=torch.long, device=self.drawing.keys.device)
        return DrawnRows(self.request, [self.rows[number] for number in numbers], self.drawing.select(index))

    def split(self, count: int) -> tuple[DrawnRows, DrawnRows]:
        """The first rows, and the others."""
        numbers = list(range(len(self.rows)))
        return self.select(numbers[:count]), self.select(numbers[count:])
