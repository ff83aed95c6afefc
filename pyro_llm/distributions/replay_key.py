"""What a distribution over text is compared by when a program is replayed. Nothing here runs a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_llm.lm.state import PAD, TextState
from pyro_llm.lm.token_automaton import AllowedTokens, TokenAutomaton

TensorMap = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt, which all texts of a state share; so it has no rows to be gathered."""

    text: str
    tokens: Tensor

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prompt):
            return NotImplemented
        return self.text == other.text and (self.tokens is other.tokens or torch.equal(self.tokens, other.tokens))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.text)


@dataclass(frozen=True, eq=False)
class Rows:
    """The tokens of each text since the prompt, and which have ended; equal if they are but for padding."""

    tokens: Tensor
    finished: Tensor

    @classmethod
    def of(cls, state: TextState) -> Rows:
        """Those of a state."""
        return cls(state.tokens, state.finished)

    def map_tensors(self, fn: TensorMap) -> Rows:
        """Apply `fn(tensor, event_dim)` to both."""
        return Rows(fn(self.tokens, 1), fn(self.finished, 0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rows):
            return NotImplemented
        width = max(self.tokens.shape[-1], other.tokens.shape[-1])
        return _equal(_padded(self.tokens, width), _padded(other.tokens, width)) and _equal(
            self.finished, other.finished
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, eq=False)
class Allowed:
    """The tokens that a constraint allows after each text: a mask `[..., vocabulary_size]`, or by an automaton."""

    tokens: AllowedTokens | Tensor

    def map_tensors(self, fn: TensorMap) -> Allowed:
        """Apply `fn(tensor, event_dim)` to what there is for each text."""
        if isinstance(self.tokens, Tensor):
            return Allowed(fn(self.tokens, 1))
        return Allowed(AllowedTokens(self.tokens.automaton, fn(self.tokens.states, 0), self.tokens.remaining))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Allowed):
            return NotImplemented
        one, two = self.tokens, other.tokens
        if isinstance(one, Tensor) or isinstance(two, Tensor):
            return isinstance(one, Tensor) and isinstance(two, Tensor) and _equal(one, two)
        return (
            one.remaining == two.remaining
            and _equal(one.states, two.states)
            and _same_automaton(one.automaton, two.automaton)
        )

    __hash__ = None  # type: ignore[assignment]


def replay_key(lm: Any, decoding: Any, state: TextState) -> dict[str, Any]:
    """What is common to all distributions over text; see `TextDistribution.replay_key`."""
    prompt = Prompt(state.prompt, state.prompt_tokens)
    return {"lm": lm, "prompt": prompt, **vars(decoding), "state": Rows.of(state)}


def _padded(tokens: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(tokens, (0, width - tokens.shape[-1]), value=PAD)


def _equal(one: Tensor, two: Tensor) -> bool:
    """Equality of rows, where one tensor may have for all texts what the other has for each."""
    if one.shape != two.shape:
        try:
            one, two = torch.broadcast_tensors(one, two)
        except RuntimeError:
            return False
    return torch.equal(one, two)


def _same_automaton(one: TokenAutomaton, two: TokenAutomaton) -> bool:
    tables = ("following", "token_class", "distance")
    return one is two or all(torch.equal(getattr(one, name), getattr(two, name)) for name in tables)
