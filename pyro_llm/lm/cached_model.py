"""Next-token logits of a causal language model of transformers, over rows in a key-value cache."""

from __future__ import annotations

import inspect

from torch import Tensor
from transformers import PreTrainedModel

from pyro_llm.lm.kv.compiled import CompileOption
from pyro_llm.lm.kv.rows import KVRows
from pyro_llm.lm.kv.transformer import CachedTransformer
from pyro_llm.run_scope import claim, current_cost

_LARGEST_LOGITS = 1 << 26  # numbers; 256 MiB in float32


class CachedModel(CachedTransformer):
    """A causal language model whose rows can be forked, reordered and moved within its cache.

    Args:
        model: a causal language model.
        context_length: positions it has, or None if it names no limit.
        shared_prompts: store a prompt once for all rows; see `CachedTransformer`.
        compile: compile the token loop's pass; see `CachedTransformer`.

    Raises:
        CapabilityError: the model's memory cannot be moved from row to row, or its positions cannot be given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        context_length: int | None,
        shared_prompts: bool = True,
        compile: CompileOption = False,
    ) -> None:
        super().__init__(model, context_length, shared_prompts, compile)
        self._can_choose_logits = "logits_to_keep" in inspect.signature(model.forward).parameters

    def logits(
        self,
        rows: KVRows,
        tokens: Tensor,
        begin: Tensor,
        reading: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Read tokens after the slots of rows; see `forward`.

        Args:
            rows: their cache grows.
            tokens: shape `[rows, length]`.
            begin: the position of each row's first token. Shape `[rows]`.
            reading: rows of which all these tokens are text; None for all. Shape `[rows]`.
            positions: indices of the tokens whose logits are wanted, `[wanted]`; None for all.

        Returns:
            Logits. Shape `[rows, wanted, vocabulary_size]`.
        """
        claim(lm_calls=1)
        length, choose, first = tokens.shape[1], None, 0
        if positions is not None and length > 1 and self._can_choose_logits:
            # Indices would be put where the model begins, and what they index is where it ends: then a number instead.
            first = int(positions.min()) if self.is_spread else 0
            choose = {"logits_to_keep": length - first if self.is_spread else positions.to(self.device)}
        logits = self.forward(rows, tokens, begin, reading, **(choose or {})).logits.to(tokens.device)
        current_cost().lm_calls += 1
        if positions is None or length == 1 or (choose and not self.is_spread):
            return logits
        return logits[:, positions - first]

    def longest_pass(self, rows: int) -> int:
        """Positions whose logits may be held at once for so many rows."""
        return max(1, _LARGEST_LOGITS // (rows * self._model.config.get_text_config().vocab_size))
