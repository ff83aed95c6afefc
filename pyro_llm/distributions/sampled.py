"""Log-probabilities of what was sampled, kept from the forward passes that sampled it.

They are never recomputed for a weight: in bf16 another pass over the same tokens drifts by 0.1 nats and more. They
belong to the sampled tensor itself, so that a replayed program, which builds its distributions anew, finds them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from pyro.ops.provenance import detach_provenance
from torch import Size, Tensor
from torch.utils.weak import WeakTensorKeyDictionary

if TYPE_CHECKING:
    from pyro_llm.distributions.text_distribution import TextDistribution
    from pyro_llm.lm.decoding import Decoding
    from pyro_llm.lm.language_model import LanguageModel


@dataclass(frozen=True)
class _Origin:
    """What a value was sampled from: the law, and the texts that it continues."""

    lm: LanguageModel
    decoding: Decoding
    tilt: Any
    prompt_tokens: Tensor
    tokens: Tensor
    finished: Tensor

    @classmethod
    def of(cls, distribution: TextDistribution) -> _Origin:
        state = distribution.state
        tokens, finished = detach_provenance(state.tokens), detach_provenance(state.finished)
        return cls(distribution.lm, distribution.decoding, distribution.tilt, state.prompt_tokens, tokens, finished)

    def agrees(self, other: _Origin, batch_shape: Size) -> bool:
        """Whether both are the same law, but for its tilt, after the same texts, broadcast to `batch_shape`."""
        return (
            self.lm is other.lm
            and self.decoding == other.decoding
            and _equal(self.prompt_tokens, other.prompt_tokens, Size(), 1)
            and _equal(self.tokens, other.tokens, batch_shape, 1)
            and _equal(self.finished, other.finished, batch_shape, 0)
        )


@dataclass(frozen=True)
class _Sampled:
    origin: _Origin
    version: int
    log_prob: Tensor


_sampled: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # forgets a value together with its tensor


def remember_log_prob(value: Tensor, distribution: TextDistribution, log_prob: Tensor) -> None:
    """Keep the log-probability with which `distribution` sampled `value`, for as long as that tensor lives."""
    _sampled[value] = _Sampled(_Origin.of(distribution), _version(value), log_prob)


def recall_log_prob(value: Tensor, distribution: TextDistribution) -> Tensor | None:
    """The log-probability that `value` was sampled with, if it was sampled from what `distribution` describes."""
    sampled = _sampled.get(value)
    if sampled is None or sampled.version != _version(value):
        return None
    if not distribution.same_tilt(sampled.origin.tilt):
        return None
    batch_shape = sampled.log_prob.shape
    if torch.broadcast_shapes(distribution.batch_shape, batch_shape) != batch_shape:
        return None
    return sampled.log_prob if sampled.origin.agrees(_Origin.of(distribution), batch_shape) else None


def _version(value: Tensor) -> int:
    """Counts in-place writes."""
    return -1 if value.is_inference() else value._version


def _equal(one: Tensor, other: Tensor, batch_shape: Size, event_dim: int) -> bool:
    if one is other:
        return True
    expanded = [tensor.expand(batch_shape + tensor.shape[tensor.dim() - event_dim :]) for tensor in (one, other)]
    return torch.equal(*expanded)
