"""Rows of text while their tokens are drawn, each at its own place of its own step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pyro_llm.lm.keyed import draw, slot_keys, token_uniforms
from pyro_llm.lm.language_model import SamplingKey
from pyro_llm.lm.state import PAD
from pyro_llm.lm.stopping import Terminator


@dataclass
class Drawing:
    """What has been drawn for each of some rows.

    A draw is keyed by the row's seed, its slot and the place of the token in its step, so that it is the same whichever
    rows are here. Rows that have ended may stay; nothing changes for them.

    Attributes:
        keys: what names the uniforms of a row. int64, shape `[rows]`.
        index: tokens drawn. Shape `[rows]`.
        tokens: what they are, padded with `PAD`, and a column more. Shape `[rows, max_tokens + 1]`.
        log_prob: of what has been drawn. float64, shape `[rows]`.
        state: that of the terminator. int32, shape `[rows]`.
        active: rows that go on. Shape `[rows]`.
    """

    keys: Tensor
    index: Tensor
    tokens: Tensor
    log_prob: Tensor
    state: Tensor
    active: Tensor

    @classmethod
    def begin(cls, ending: Terminator, key: SamplingKey, max_tokens: int) -> Drawing:
        """Rows of which nothing has been drawn.

        Args:
            ending: says when a row ends.
            key: names the uniforms.
            max_tokens: of the step.
        """
        slots, rows = key.slots, len(key.slots)
        return cls(
            keys=slots if key.seed is None else slot_keys(key.seed, slots),
            index=torch.zeros_like(slots),
            tokens=slots.new_full((rows, max_tokens + 1), PAD),
            log_prob=torch.zeros(rows, dtype=torch.float64, device=slots.device),
            state=ending.begin(rows),
            active=torch.ones(rows, dtype=torch.bool, device=slots.device),
        )

    def __len__(self) -> int:
        return self.keys.shape[0]

    def draw(self, log_probs: Tensor, ending: Terminator, greedy: bool = False) -> tuple[Tensor, Tensor]:
        """Draw the next token of each row.

        Args:
            log_probs: of the next token. Shape `[rows, vocabulary_size]`.
            ending: says when a row ends.
            greedy: whether to take the most probable token, the first of equals.

        Returns:
            The tokens, and which of them are to be appended to their row: EOS is not. Shapes `[rows]`.
        """
        token = log_probs.argmax(-1) if greedy else draw(log_probs, token_uniforms(self.keys, self.index))
        written = torch.where(self.active, token, PAD)
        self.tokens.scatter_(1, self.index.unsqueeze(-1), written.unsqueeze(-1))
        term = log_probs.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        self.log_prob += torch.where(self.active, term.double(), 0.0)
        self.state = ending.advance(self.state, token)  # ended states are absorbing
        self.index += self.active
        writing = self.active & (self.state != ending.by_eos)
        self.active = self.active & ~ending.ended(self.state) & (self.index < self.tokens.shape[1] - 1)
        return token, writing

    def select(self, rows: Tensor) -> Drawing:
        """Some of the rows (indices), in this order."""
        return Drawing(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def joined(drawings: Sequence[Drawing]) -> Drawing:
        """The rows of several, one after another."""
        columns = ([getattr(drawing, field.name) for drawing in drawings] for field in fields(Drawing))
        return drawings[0] if len(drawings) == 1 else Drawing(*map(torch.cat, columns))
