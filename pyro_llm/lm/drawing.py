"""The rows of a step while their tokens are drawn: all of them at first, then only those that have not ended."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.lm.keyed import draw, uniforms
from pyro_llm.lm.language_model import SamplingKey
from pyro_llm.lm.state import PAD
from pyro_llm.lm.stopping import Terminator


class Drawing:
    """Tokens of a step, drawn one after another for rows that leave when they have ended.

    A draw is keyed by the row's slot, so that it is the same whichever rows have left.

    Args:
        ending: says when a row ends.
        key: names the uniforms.
        max_tokens: width of the result.

    Attributes:
        tokens: what has been drawn for the rows that have left, padded with `PAD`. Shape `[rows, max_tokens]`.
        log_prob: of what has been drawn for them. float64, shape `[rows]`.
        closed: which of them EOS has ended. Shape `[rows]`.
        active: which of the rows that are here go on. Shape `[rows here]`.
    """

    def __init__(self, ending: Terminator, key: SamplingKey, max_tokens: int) -> None:
        rows, device = len(key.slots), key.slots.device
        self._ending, self._seed, self._slots = ending, key.seed, key.slots
        self.tokens = torch.full((rows, max_tokens), PAD, dtype=torch.long, device=device)
        self.log_prob = torch.zeros(rows, dtype=torch.float64, device=device)
        self.closed = torch.zeros(rows, dtype=torch.bool, device=device)
        self._rows = torch.arange(rows, device=device)
        self._columns: list[Tensor] = []
        self._sum = self.log_prob.clone()
        self._state = ending.begin(rows)
        self.active = torch.ones(rows, dtype=torch.bool, device=device)

    def draw(self, log_probs: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the next token of each row here.

        Args:
            log_probs: of the next token. Shape `[rows here, vocabulary_size]`.

        Returns:
            The tokens, and which of them are to be appended to their row: EOS is not. Shapes `[rows here]`.
        """
        token = draw(log_probs, uniforms(self._seed, self._slots, len(self._columns)))
        self._columns.append(torch.where(self.active, token, PAD))
        term = log_probs.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        self._sum += torch.where(self.active, term.double(), 0.0)
        self._state = self._ending.advance(self._state, token)  # ended states are absorbing
        writing = self.active & (self._state != self._ending.by_eos)
        self.active = self.active & ~self._ending.ended(self._state)
        return token, writing

    def leave(self, staying: Tensor | None = None) -> None:
        """Write down what has been drawn, and keep only the rows that stay (indices; None: nobody)."""
        drawn = torch.stack(self._columns, -1)
        self.tokens[self._rows, : drawn.shape[1]] = drawn
        self.log_prob[self._rows] = self._sum
        self.closed[self._rows] = self._state == self._ending.by_eos
        if staying is not None:
            self._columns = [column[staying] for column in self._columns]
            self._rows, self._slots, self._state = self._rows[staying], self._slots[staying], self._state[staying]
            self._sum, self.active = self._sum[staying], self.active[staying]
