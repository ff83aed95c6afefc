"""Whether a model reads from left to right, asked of the model itself."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

_NEGLIGIBLE = 1e-4  # by the change of the logits of the token that was changed; exactly 0 is usual


@torch.no_grad()
def is_causal(model: PreTrainedModel) -> bool:
    """Whether later tokens leave the logits of earlier ones as they are, so that keys and values can be kept.

    Configurations do not tell reliably: a decoder is made bidirectional by one flag or another, or by code of its own.
    So one small forward pass compares two texts that differ in all but their first token.

    Args:
        model: a model with a head on every token.
    """
    middle = model.config.get_text_config().vocab_size // 2
    tokens = torch.tensor([[middle, middle - 1, middle - 1], [middle, middle + 1, middle + 1]], device=model.device)
    one, other = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits.float()
    change = (one - other).abs().amax(-1)
    return bool(change[0] <= _NEGLIGIBLE * change[-1])
