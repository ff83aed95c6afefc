"""Forward passes of a causal language model of transformers over rows in a key-value cache."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from pyro_llm.errors import CapabilityError
from pyro_llm.lm.kv_rows import KVRows
from pyro_llm.run_scope import current_cost

_LARGEST_LOGITS = 1 << 26  # numbers; 256 MiB in float32


class CachedModel:
    """A model whose rows can be forked, reordered and moved within its cache.

    Args:
        model: a causal language model.
        context_length: positions it has, or None if it names no limit.

    Attributes:
        layers: layers of its cache.

    Raises:
        CapabilityError: the model's memory is not keys and values for each token, or its positions cannot be given.
    """

    def __init__(self, model: PreTrainedModel, context_length: int | None) -> None:
        self._model = model
        self._context_length = context_length
        options = inspect.signature(model.forward).parameters
        for name in ("past_key_values", "position_ids", "attention_mask"):
            if name not in options:
                raise CapabilityError(
                    f"{type(model).__name__} takes no `{name}`, which forking and resampling its rows needs; "
                    "take a decoder-only model with a key-value cache (Llama, Qwen, Gemma, GPT-2, ...)"
                )
        kinds = [type(layer) for layer in DynamicCache(config=model.config).layers]
        wrong = {kind.__name__ for kind in kinds if kind not in (DynamicLayer, DynamicSlidingWindowLayer)}
        if wrong:
            raise CapabilityError(
                f"{type(model).__name__} remembers more than keys and values ({', '.join(sorted(wrong))}), and such "
                "a memory cannot be cut back and moved from row to row; take a model with plain attention layers"
            )
        self.layers = len(kinds)
        self._can_choose_logits = "logits_to_keep" in options

    def forward(self, rows: KVRows, tokens: Tensor, begin: Tensor, positions: Tensor | None = None) -> Tensor:
        """Read tokens after the slots of rows, and append them to the cache; the rows' lengths are left to the caller.

        Args:
            rows: their cache grows.
            tokens: shape `[rows, length]`. What lies after a row's last token must never be read again.
            begin: the position of each row's first token. Shape `[rows]`.
            positions: indices of the tokens whose logits are wanted, `[wanted]`; None for all.

        Returns:
            Logits. Shape `[rows, wanted, vocabulary_size]`.
        """
        length = tokens.shape[1]
        position_ids = begin.unsqueeze(-1) + torch.arange(length, device=tokens.device)
        if self._context_length is not None:
            position_ids = position_ids.clamp(max=self._context_length - 1)  # reached by padding only
        arguments: dict[str, Any] = {"logits_to_keep": positions} if self._choose(positions, length) else {}
        logits = self._model(
            input_ids=tokens,
            position_ids=position_ids,
            attention_mask=rows.attention_mask(length),
            past_key_values=rows.cache,
            use_cache=True,
            **arguments,
        ).logits
        current_cost().lm_calls += 1
        return logits if positions is None or arguments or length == 1 else logits[:, positions]

    def block(self, rows: int) -> int:
        """Positions whose logits may be held at once for so many rows."""
        return max(1, _LARGEST_LOGITS // (rows * self._model.config.get_text_config().vocab_size))

    def _choose(self, positions: Tensor | None, length: int) -> bool:
        return positions is not None and length > 1 and self._can_choose_logits
