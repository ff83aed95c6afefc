"""The support of distributions over texts: rows of tokens that end, and are padded after their end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pyro.distributions import constraints
from torch import Tensor

from pyro_llm.lm.state import PAD
from pyro_llm.lm.stopping import Terminator


class _TokenSequence(constraints.Constraint):
    """Rows of token ids in `0 .. vocabulary_size - 1`, padded on the right with `PAD`, only padding after an end.

    A row may stop short of any end, or be empty: it then stands for all the texts that begin with it.

    Args:
        vocabulary_size: the number of token ids.
        eos_token_ids: tokens after which only padding may follow.
        terminator: if given, tells where a row ends, by a stop string as well; `eos_token_ids` are then not needed.
    """

    is_discrete = True
    event_dim = 1

    def __init__(
        self, vocabulary_size: int, eos_token_ids: Sequence[int] = (), terminator: Terminator | None = None
    ) -> None:
        self.vocabulary_size = vocabulary_size
        self.eos_token_ids = tuple(eos_token_ids)
        self._terminator = terminator
        super().__init__()

    def check(self, value: Any) -> Tensor:
        """Whether each row of `value`, of shape `[..., length]`, is such a sequence. Shape `[...]`."""
        is_token = (value >= 0) & (value < self.vocabulary_size) & (value % 1 == 0)
        tokens = torch.where(is_token, value, PAD).long()
        valid = (is_token | (value == PAD)).all(-1)
        may_not_follow = ~is_token | self._ends(tokens)
        return valid & ~(may_not_follow[..., :-1] & is_token[..., 1:]).any(-1)

    def _ends(self, tokens: Tensor) -> Tensor:
        """Whether rows have ended at each of their tokens."""
        if self._terminator is None:
            return torch.isin(tokens, tokens.new_tensor(self.eos_token_ids))
        states = self._terminator.states(tokens.reshape(-1, tokens.shape[-1]))
        return self._terminator.ended(states).reshape(tokens.shape)

    def __repr__(self) -> str:
        return f"token_sequence(vocabulary_size={self.vocabulary_size})"


token_sequence = _TokenSequence
