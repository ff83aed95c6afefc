"""How tokens are drawn from logits: temperature, top-k and top-p, and when a step ends."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from pyro_llm.errors import OptionError, UnknownStopError
from pyro_llm.validation import as_integer

_MASS_TOLERANCE = 1e-9  # so that {0.5, 0.3} reaches top_p = 0.8 whatever the last bit of their sum


@dataclass(frozen=True)
class Decoding:
    """The law of one step of text, apart from the model.

    It is part of the distribution: what is scored is the same renormalised law that is sampled.

    Attributes:
        max_tokens: the step ends after so many tokens at the latest.
        stop: the step ends with the token in which one of these strings is completed. A single string may be given.
        temperature: logits are divided by it first. Greater than 0.
        top_p: then only the smallest set of most probable tokens whose mass reaches `top_p` is kept. In (0, 1].
        top_k: before that, only the `top_k` most probable tokens are kept; 0 keeps all.

    Raises:
        ValueError: an option is out of its range.
        OptionError: temperature or top_p is not a number, or stop neither a string nor strings.
        UnknownStopError: a stop string is empty.
    """

    max_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        stop = stop_strings(self.stop)
        object.__setattr__(self, "stop", stop)
        for name in ("max_tokens", "top_k"):
            integer = as_integer(getattr(self, name))
            object.__setattr__(self, name, getattr(self, name) if integer is None else integer)
        if as_integer(self.max_tokens) is None or self.max_tokens < 1:
            raise ValueError(f"max_tokens must be an integer of at least 1, not {self.max_tokens!r}")
        for string in stop:
            if not isinstance(string, str):
                raise ValueError(f"stop must be a string or strings, not {string!r}")
            if not string:
                raise UnknownStopError("a stop string is empty; leave `stop` out to stop at EOS or max_tokens only")
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Real):
                advice = " (of a tensor with a single value, take `float(...)`)" if isinstance(value, Tensor) else ""
                raise OptionError(f"{name}={value!r}: give a number, the same for all texts{advice}.")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(
                f"temperature must be positive and finite, not {self.temperature!r}; for nearly greedy draws take 0.01"
            )
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], not {self.top_p!r}; 1 keeps every token")
        if as_integer(self.top_k) is None or self.top_k < 0:
            raise ValueError(f"top_k must be a non-negative integer, not {self.top_k!r}; 0 keeps every token")


def restrict(logits: Tensor, decoding: Decoding) -> Tensor:
    """Log-probabilities of the next token under temperature, top-k and top-p, renormalised.

    Of equally probable tokens the one with the smaller id ranks first, so that ties are broken alike everywhere.

    Args:
        logits: of any floating type. Shape `[..., vocabulary_size]`.
        decoding: the options; its `stop` and `max_tokens` play no part here.

    Returns:
        Log-probabilities in float64 for float64 logits, else in float32; `-inf` for tokens left out. Same shape.

    Example:
        >>> logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
        >>> restrict(logits, Decoding(max_tokens=1, top_p=0.8)).exp()
        tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)
    """
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    if decoding.temperature != 1.0 or decoding.top_k or decoding.top_p < 1.0:
        logits = logits.to(dtype)
    if decoding.temperature != 1.0:
        logits = logits / decoding.temperature
    if 0 < decoding.top_k < logits.shape[-1]:
        logits = logits.masked_fill(~_top_k(logits, decoding.top_k), -torch.inf)
    if decoding.top_p < 1.0:
        logits = logits.masked_fill(~_top_p(logits, decoding.top_p), -torch.inf)
    return logits.log_softmax(-1, dtype=dtype)  # from half precision without a copy in between


def _top_k(logits: Tensor, k: int) -> Tensor:
    """The mask of the k largest, the first of equals preferred."""
    threshold = logits.topk(k, -1).values[..., -1:]
    above, level = logits > threshold, logits == threshold
    return above | (level & (level.cumsum(-1) <= k - above.sum(-1, keepdim=True)))


def _top_p(logits: Tensor, p: float) -> Tensor:
    """The mask of the smallest set of most probable tokens whose mass reaches p."""
    descending, order = logits.sort(dim=-1, descending=True, stable=True)
    mass = descending.double().softmax(-1)
    before = mass.cumsum(-1) - mass
    keep = before < p - _MASS_TOLERANCE
    keep[..., 0] = True
    return torch.zeros_like(keep).scatter(-1, order, keep)


def stop_strings(stop: str | Iterable[str] | None) -> tuple[str, ...]:
    """The strings that end a step: one, several, or none.

    Raises:
        OptionError: `stop` is nothing of that kind.
    """
    if isinstance(stop, str):
        return (stop,)
    try:
        return () if stop is None else tuple(stop)
    except TypeError as error:
        raise OptionError(f"stop={stop!r}: give a string that ends a step, several of them, or None.") from error
