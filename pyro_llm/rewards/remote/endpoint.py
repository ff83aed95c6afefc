"""What a server is sent, and what it answers: the base of the formats of remote rewards, and their checks."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from pyro_llm.errors import OptionError
from pyro_llm.rewards.log_odds import from_probability

Scale = Literal["probability", "log_odds"]


class Item(NamedTuple):
    """A problem and the text since it."""

    problem: str
    text: str


class Answer(NamedTuple):
    """Log-odds in the order of the items, and the tokens that the server says it read (0 if it does not say)."""

    log_odds: list[float]
    tokens: int


class Endpoint(ABC):
    """A format. `path` is added to the address of the server; `batch_size` items go into one request."""

    path: str = ""
    batch_size: int = 1

    @abstractmethod
    def payload(self, items: Sequence[Item]) -> Any:
        """What is posted, as JSON."""

    @abstractmethod
    def read(self, items: Sequence[Item], answer: Any) -> Answer:
        """The scores in an answer. Raises ValueError for one that holds anything else than a score for each item."""


def check_scale(scale: Any) -> None:
    """Raise OptionError for a scale that does not exist."""
    if scale not in get_args(Scale):
        raise OptionError(f"There is no scale {scale!r}; choose one of {', '.join(map(repr, get_args(Scale)))}.")


def check_template(template: str) -> None:
    """Raise OptionError for a template that cannot be filled, or that leaves the text out."""
    try:
        filled = template.format(problem="", text="\0")
    except (KeyError, IndexError, ValueError) as error:
        raise OptionError(
            f"The template {template!r} cannot be filled: {error!r}; it may use problem, text."
        ) from error
    if "\0" not in filled:
        raise OptionError(f"The template {template!r} has no {{text}}, so that all texts would be scored alike.")


def check_score_for_each(scores: Any, items: Sequence[Item]) -> None:
    """Raise ValueError unless there is a score for each item."""
    if not isinstance(scores, list) or len(scores) != len(items):
        count = len(scores) if isinstance(scores, list) else "no list of"
        raise ValueError(f"{count} scores for {len(items)} texts")


def checked(answer: Answer, items: Sequence[Item]) -> Answer:
    """What an endpoint has read, if that is a number for each item. Raises ValueError if it is not."""
    check_score_for_each(answer.log_odds, items)
    if any(math.isnan(log_odds) for log_odds in answer.log_odds):
        raise ValueError("log-odds that are NaN")
    return answer


def as_log_odds(value: Any, scale: Scale) -> float:
    """A score as log-odds. Raises ValueError for what is no score."""
    number = as_number(value)
    if scale == "log_odds":
        return number
    if not 0 <= number <= 1:
        raise ValueError(f"the score {number} is no probability")
    return from_probability(number)


def tokens_of(answer: Any) -> int:
    """The tokens that a server says it has read, 0 if it does not."""
    usage = answer.get("usage")
    tokens = usage.get("total_tokens", 0) if isinstance(usage, dict) else 0
    return tokens if isinstance(tokens, int) and not isinstance(tokens, bool) and tokens >= 0 else 0


def as_number(value: Any) -> float:
    """A number of an answer. Raises ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
        raise ValueError(f"{value!r} is no number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"an integer of {int(value).bit_length()} bits, too large for a float") from None
