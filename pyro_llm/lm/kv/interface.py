"""How a pass over rows reaches a model's attention: through transformers' attention interface.

A prompt may be stored apart only where the model's attention is what `SharedPromptPass` computes. Nobody's word is
taken for it: the pass that reads the first prompt, an ordinary one, is watched layer by layer.
"""

from __future__ import annotations

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from pyro_llm.lm.kv.attention import SharedPromptPass
from pyro_llm.lm.kv.compiled import COMPILED, attend
from pyro_llm.lm.kv.layers import RowCache

NAME = "pyro_llm_shared_prompt"
PASS = "pyro_llm_pass"
"""The keyword by which a pass reaches the attention, through the model's forward."""

# What attention functions are given that changes nothing for a causal decoder, or that a pass heeds by other means.
_HARMLESS = frozenset({"dropout", "sliding_window", "is_causal", "position_ids", "use_cache", "cache_position"})


class Witness:
    """Sees, in a pass over rows that hold their prompt, whether the model's attention is what a shared prompt takes.

    Args:
        cache: that of the pass.
    """

    def __init__(self, cache: RowCache) -> None:
        self._cache = cache
        self._attended: set[int] = set()
        self._wrong = False

    def see(self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, options: dict[str, object]) -> None:
        """Note one call of the attention."""
        layer = getattr(module, "layer_idx", None)
        mine = self._cache.row_layers.get(layer) if isinstance(layer, int) else None
        asked = {name for name, option in options.items() if option is not None and option is not False}
        window = options.get("sliding_window")
        if (
            not isinstance(layer, int)
            or mine is None
            or key is not mine.keys
            or value is not mine.values
            or query.shape[1] % key.shape[1]
            or not getattr(module, "is_causal", True)
            or options.get("is_causal") is False
            or options.get("dropout")
            or asked - _HARMLESS
            or window not in (None, self._cache.kinds[layer].window)
        ):
            self._wrong = True
        else:
            self._attended.add(layer)

    def shares(self) -> bool:
        """Whether every layer with keys and values came by, and none asked for more."""
        return not self._wrong and self._attended == self._cache.row_layers.keys()


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **options: object,
) -> tuple[Tensor, None]:
    """The attention function: transformers' own for every pass that is none of ours."""
    of_pass = options.pop(PASS, None)
    if of_pass == COMPILED:
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        return attend(query, key, value, module.layer_idx, scaling), None  # type: ignore[arg-type]
    if isinstance(of_pass, SharedPromptPass):
        scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
        output = of_pass.attend(module.layer_idx, query, key, value, scaling)  # type: ignore[arg-type]
        return output.transpose(1, 2).contiguous(), None
    if isinstance(of_pass, Witness):
        of_pass.see(module, query, key, value, options)
    return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)  # type: ignore[arg-type]


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def switch_attention(model: PreTrainedModel) -> bool:
    """Let a model's attention go through this module, where it is transformers' `sdpa`; says whether it does.

    For all other uses of the model nothing changes: a pass without our keyword is handed on to `sdpa`.
    """
    config = model.config.get_text_config()
    in_chunks = getattr(config, "attention_chunk_size", None) is not None  # cached as a window, which it is not
    if config._attn_implementation == "sdpa" and not in_chunks and model._can_set_attn_implementation():
        model.set_attn_implementation(NAME)
    return bool(config._attn_implementation == NAME) and not in_chunks
