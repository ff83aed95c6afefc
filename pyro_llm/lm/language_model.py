"""The protocol of a language model: narrow enough that a remote server can implement it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor

if TYPE_CHECKING:
    from pyro_llm.lm.decoding import Decoding
    from pyro_llm.lm.state import TextState


@dataclass(frozen=True)
class Prefix:
    """Rows of tokens that a language model is to continue.

    Attributes:
        prompt_tokens: the prompt, shared by all rows. Shape `[prompt_length]`.
        tokens: what follows the prompt, padded on the right with `PAD`. Shape `[rows, length]`.
        lengths: tokens that follow the prompt. Shape `[rows]`.
    """

    prompt_tokens: Tensor
    tokens: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def keys(self) -> list[bytes]:
        """The content of each row, prompt included, as a hashable key. One copy to the host."""
        prompt = self.prompt_tokens.cpu().numpy().tobytes()
        tokens = self.tokens.cpu().numpy()
        lengths = self.lengths.tolist()
        return [prompt + row[:length].tobytes() for row, length in zip(tokens, lengths, strict=True)]


@dataclass(frozen=True)
class SamplingKey:
    """Names the uniform that draws each token, so that a draw does not depend on how rows are batched.

    Attributes:
        seed: drawn once for a site from torch's generator. None: nothing is drawn, each token is the most probable one,
            the first of equals.
        slots: the particle slot of each row. Shape `[rows]`, int64, on the model's device.
    """

    seed: int | None
    slots: Tensor


@dataclass(frozen=True)
class Continuation:
    """Sampled tokens and the log-probability they were drawn with.

    Attributes:
        tokens: padded on the right with `PAD`. Shape `[rows, max_tokens]`.
        log_prob: float64 sum over tokens, from the forward passes that drew them. Shape `[rows]`.
    """

    tokens: Tensor
    log_prob: Tensor


class Session(Protocol):
    """What a language model remembers during one run (a KV cache, say), addressed by the content of rows.

    A session may have `statistics` too (see `TokenSession`), for rewards that read the laws of tokens, and
    `note_drawn`, for its count of what it has read.

    It claims from the budget (`run_scope.claim`) what a piece of work will cost, and adds it to `current_cost()` when
    that is done: `lm_calls`, `lm_tokens_forwarded`, `lm_tokens_sampled`, and `lm_tokens_read`, those forwarded
    that were not drawn in this run, which `Prices` and budgets of `lm_tokens` and `dollars` count. If no session
    of a run counts any, what was forwarded beyond what was sampled takes their place (`Cost.lm_tokens_input`).
    """

    def sample(self, prefix: Prefix, decoding: Decoding, key: SamplingKey) -> Continuation:
        """Draw tokens after each row until a stop string, EOS or `decoding.max_tokens`."""
        ...

    def score(self, prefix: Prefix, continuation: Tensor, decoding: Decoding) -> Tensor:
        """Log-probability that generation begins with `continuation`. `[rows, length]` -> float64 `[rows]`."""
        ...

    def next_log_probs(self, prefix: Prefix, decoding: Decoding) -> Tensor:
        """Log-probabilities of the next token, `[rows, vocabulary_size]`, in fp32 or better.

        Raises:
            CapabilityError: the model gives no logits (optional for remote models).
        """
        ...


@runtime_checkable
class LanguageModel(Protocol):
    """A language model: a tokenizer, a vocabulary, and sessions that sample and score."""

    name: str
    vocabulary_size: int
    eos_token_ids: tuple[int, ...]
    context_length: int | None

    @property
    def device(self) -> torch.device:
        """Where tokens live, and the model's computation takes place."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that continues a prompt (no special tokens added)."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, end-of-sequence tokens left out."""
        ...

    def token_bytes(self) -> Sequence[bytes]:
        """The UTF-8 bytes that each token of the vocabulary contributes to a text, EOS tokens as `b""`."""
        ...

    def prompt(self, text: str) -> TextState:
        """The state of a text that has just begun: the prompt and nothing after it.

        Raises:
            ContextLengthError: the prompt does not fit the context.
        """
        ...

    def session(self) -> Session:
        """A fresh session, sharing nothing with others."""
        ...
