"""Heads on decoders that transformers has no class for, under the names of their published weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_MAPPING, AutoModel, Cache, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import TokenClassifierOutput

from pyro_llm.errors import RewardFormatError


class Float32Linear(nn.Linear):
    """A linear map that is computed in float32 whatever the dtype of its weights and argument."""

    def forward(self, input: Tensor) -> Tensor:
        """The map applied to the last dimension."""
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(input.float(), self.weight.float(), bias)


class DecoderWithHead:
    """Mixed into the `PreTrainedModel` of a family: its decoder, and a head on every token.

    What is loaded and how (shards, dtype, missing weights) is left to `from_pretrained`.
    """

    head_name: ClassVar[str]
    """The attribute that the head is, and so the beginning of the names of its weights."""
    build: ClassVar[Callable[[PreTrainedConfig], nn.Module]]
    """Makes the head."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__(config)  # type: ignore[call-arg]
        setattr(self, self.base_model_prefix, AutoModel.from_config(config))  # type: ignore[attr-defined]
        self.add_head(config)
        self.post_init()  # type: ignore[attr-defined]

    def add_head(self, config: PreTrainedConfig) -> None:
        """Make the head."""
        setattr(self, self.head_name, type(self).build(config))

    def head(self, hidden: Tensor) -> Tensor:
        """The head's outputs, fp32. `[..., hidden_size]` -> `[..., width]`."""
        return getattr(self, self.head_name)(hidden)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        **options: Any,
    ) -> TokenClassifierOutput:
        """The head's outputs at every token."""
        decoder = getattr(self, self.base_model_prefix)  # type: ignore[attr-defined]
        hidden = decoder(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **options,
        ).last_hidden_state
        return TokenClassifierOutput(logits=self.head(hidden))


def decoder_with_head(
    config: PreTrainedConfig, head_name: str, build: Callable[[PreTrainedConfig], nn.Module]
) -> type[PreTrainedModel]:
    """A model class: the decoder that a configuration describes, with a head on every token.

    Args:
        config: of a model that transformers has.
        head_name: the beginning of the names of the head's weights in the checkpoint.
        build: makes the head.

    Raises:
        RewardFormatError: the model is no decoder.
    """
    return on_decoder(config, DecoderWithHead, head_name=head_name, build=staticmethod(build))


def on_decoder(config: PreTrainedConfig, mixin: type[DecoderWithHead], **members: Any) -> type[PreTrainedModel]:
    """The family of models that a configuration belongs to, with a mixin and class attributes; see above."""
    body = MODEL_MAPPING.get(type(config), None)
    families = [base for base in getattr(body, "__mro__", ()) if base.__name__.endswith("PreTrainedModel")]
    causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and not getattr(config, "is_encoder_decoder", False)
    if not causal or not families or families[0] is PreTrainedModel:
        raise RewardFormatError(
            f"A model of type {config.model_type!r} is no plain decoder of transformers, and how a reward's head reads "
            "it differs from one such model to the next; take a decoder such as Llama, Mistral, Qwen or Gemma"
        )
    name = f"{type(config).__name__.removesuffix('Config')}{mixin.__name__.removeprefix('Decoder')}"
    return type(name, (mixin, families[0]), {"config_class": type(config), **members})


def mlp_head(config: PreTrainedConfig, labels: int | None = None) -> nn.Module:
    """Two layers with a ReLU between: `score.0` and `score.2` of Qwen2.5-Math-PRM and Qwen2.5-Math-RM.

    Args:
        config: of the model; afterwards its `num_labels` is that of the head.
        labels: outputs of the head, as its weights have it: a configuration that is silent does not tell 1 from 2.
            None: as the configuration says.
    """
    if labels is not None:
        config.num_labels = labels
    width = config.get_text_config().hidden_size
    return nn.Sequential(Float32Linear(width, width), nn.ReLU(), Float32Linear(width, int(config.num_labels or 1)))


def head_in_float32(model: Any) -> None:
    """Compute the head of a classifier of transformers in float32, in place: `score`, or `classifier` of older ones."""
    for name in ("score", "classifier"):
        head = getattr(model, name, None)
        if type(head) is nn.Linear:  # a quantised layer computes in a way of its own
            head.__class__ = Float32Linear


def linear_head(config: PreTrainedConfig) -> nn.Module:
    """The `score` of a sequence classifier of transformers."""
    return Float32Linear(config.get_text_config().hidden_size, int(config.num_labels or 1), bias=False)


class ValueHead(nn.Module):
    """A number for each token: `v_head.summary`, the layout of TRL's value head."""

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        self.summary = Float32Linear(config.get_text_config().hidden_size, 1)

    def forward(self, hidden: Tensor) -> Tensor:
        """`[..., hidden_size]` -> `[..., 1]`."""
        return self.summary(hidden)


def keep_two_logits(model: Any, wrong: int, right: int) -> Any:
    """A language model of which only two logits remain: in place, its output layer cut down to two tokens.

    The model's own treatment of its logits (a cap, a scale) stays. Those of a vocabulary are never computed.

    Args:
        model: a causal language model.
        wrong: the token whose logit becomes the first.
        right: the token whose logit becomes the second.
    """
    full = model.get_output_embeddings()
    ids = torch.tensor([wrong, right], device=full.weight.device)
    two = Float32Linear(full.in_features, 2, bias=full.bias is not None)
    two.weight = nn.Parameter(full.weight.detach()[ids].clone())
    if full.bias is not None:
        two.bias = nn.Parameter(full.bias.detach()[ids].clone())
    model.set_output_embeddings(two)
    return model
