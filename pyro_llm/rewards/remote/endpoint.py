"""What a server is sent, and what it answers: the formats of remote rewards."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class JsonEndpoint(Endpoint):
    """Plain JSON: `{"texts": [...], "problems": [...]}` is answered by `{"scores": [...]}`, a number for each text.

    Args:
        scale: whether scores are probabilities in [0, 1] or log-odds.
        batch_size: the most texts in a request.
        texts: the name of the list of texts since the problem.
        problems: the name of the list of problems; None: they are not sent.
        scores: the name of the list of scores in the answer.
        extra: what is sent besides.
    """

    scale: Scale = "probability"
    batch_size: int = 32
    texts: str = "texts"
    problems: str | None = "problems"
    scores: str = "scores"
    extra: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_batch_size(self.batch_size)

    def payload(self, items: Sequence[Item]) -> Any:
        """Texts and problems."""
        payload = dict(self.extra) | {self.texts: [item.text for item in items]}
        return payload if self.problems is None else payload | {self.problems: [item.problem for item in items]}

    def read(self, items: Sequence[Item], answer: Any) -> Answer:
        """The list of scores."""
        scores = answer[self.scores]
        check_count(scores, items)
        return Answer([as_log_odds(score, self.scale) for score in scores], tokens_of(answer))


@dataclass(frozen=True)
class PoolingEndpoint(Endpoint):
    """Reward models behind vLLM's `/pooling` and `/classify`: `{"model": ..., "input": [...]}`, `{"data": [...]}`.

    The score of a text is the last of its data (process reward models give a row for each step, or token): of two
    numbers the second, the probability of "right" with the first as its complement; of one number that one.

    Args:
        model: the model's name on the server.
        template: the text that is judged, with `{problem}` and `{text}`.
        scale: what numbers are: probabilities, or logits (of two, their difference is the log-odds).
        path: `"/pooling"` or `"/classify"`.
        batch_size: the most texts in a request.

    Source: the "OpenAI-Compatible Server" and "Pooling Models" pages of vLLM's documentation.
    """

    model: str
    template: str = "{problem}{text}"
    scale: Scale = "probability"
    path: str = "/pooling"
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_batch_size(self.batch_size)
        check_template(self.template)

    def payload(self, items: Sequence[Item]) -> Any:
        """The model and the texts."""
        return {"model": self.model, "input": [self.template.format(**item._asdict()) for item in items]}

    def read(self, items: Sequence[Item], answer: Any) -> Answer:
        """The last scores of each text, by its index."""
        rows = sorted(answer["data"], key=lambda row: row["index"])
        check_count(rows, items)
        if [row["index"] for row in rows] != list(range(len(rows))):
            raise ValueError(f"the indices are {[row['index'] for row in rows]}")
        return Answer([self._score(row["probs"] if "probs" in row else row["data"]) for row in rows], tokens_of(answer))

    def _score(self, data: Any) -> float:
        while isinstance(data, list) and data and isinstance(data[-1], list):
            data = data[-1]
        values = data if isinstance(data, list) else [data]
        if len(values) == 1:
            return as_log_odds(values[0], self.scale)
        if len(values) != 2:
            raise ValueError(f"{len(values)} numbers for a text; a reward has one, or two classes")
        wrong, right = (_number(value) for value in values)
        if self.scale == "log_odds":
            return right - wrong
        if not (wrong >= 0 and right >= 0 and abs(wrong + right - 1) < 1e-2):
            raise ValueError(f"the probabilities of two classes are {wrong} and {right}")
        return (math.log(right) if right else -math.inf) - (math.log(wrong) if wrong else -math.inf)


@dataclass(frozen=True)
class ChatEndpoint(Endpoint):
    """A judge behind `/v1/chat/completions`: the probabilities of "Yes" and "No" as its next token.

    Among the likeliest next tokens, which a server tells (20 at most), those that say either are added up, in any
    case, with blanks around or not; the log-odds are the logarithm of their ratio. If it tells of one of the two alone,
    the other is given the probability of the least likely token told, which it cannot exceed.

    Args:
        model: the model's name on the server.
        question: the user's message, with `{problem}` and `{text}`.
        yes: the word for "right".
        no: the word for "wrong".
        top_logprobs: how many of the likeliest tokens are asked for.
        path: of the address.
        extra: what is sent besides, such as `(("chat_template_kwargs", {"enable_thinking": False}),)`.
    """

    model: str
    question: str = (
        "Problem:\n{problem}\n\nSolution so far:\n{text}\n\n"
        "Is every step of this solution correct? It may not be finished. Answer with one word, Yes or No."
    )
    yes: str = "Yes"
    no: str = "No"
    top_logprobs: int = 20
    path: str = "/v1/chat/completions"
    batch_size: int = field(default=1, init=False)
    extra: tuple[tuple[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        check_template(self.question)
        if not 2 <= self.top_logprobs <= 20:
            raise OptionError(f"top_logprobs={self.top_logprobs!r}: give 2 to 20.")

    def payload(self, items: Sequence[Item]) -> Any:
        """One question, one token of an answer."""
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": self.question.format(**items[0]._asdict())}],
            "max_tokens": 1,
            "temperature": 1.0,
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
        } | dict(self.extra)

    def read(self, items: Sequence[Item], answer: Any) -> Answer:
        """The masses of both words."""
        told = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        tokens = [(str(token["token"]).strip().lower(), _number(token["logprob"])) for token in told]
        yes, no = (_log_mass(tokens, word.strip().lower()) for word in (self.yes, self.no))
        if yes == no == -math.inf:
            said = ", ".join(repr(token) for token, _ in tokens)
            raise ValueError(f"neither {self.yes!r} nor {self.no!r} among the likeliest tokens: {said}")
        least = min(logprob for _, logprob in tokens)
        return Answer([(least if yes == -math.inf else yes) - (least if no == -math.inf else no)], tokens_of(answer))


def check_scale(scale: Any) -> None:
    """Raise OptionError for a scale that does not exist."""
    if scale not in get_args(Scale):
        raise OptionError(f"There is no scale {scale!r}; choose one of {', '.join(map(repr, get_args(Scale)))}.")


def check_batch_size(batch_size: int) -> None:
    """Raise OptionError for a batch of less than one text."""
    if batch_size < 1:
        raise OptionError(f"batch_size={batch_size!r}: give at least 1.")


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


def check_count(scores: Any, items: Sequence[Item]) -> None:
    """Raise ValueError unless there is a score for each item."""
    if not isinstance(scores, list) or len(scores) != len(items):
        count = len(scores) if isinstance(scores, list) else "no list of"
        raise ValueError(f"{count} scores for {len(items)} texts")


def as_log_odds(value: Any, scale: Scale) -> float:
    """A score as log-odds. Raises ValueError for what is no score."""
    number = _number(value)
    if scale == "log_odds":
        return number
    if not 0 <= number <= 1:
        raise ValueError(f"the score {number} is no probability")
    return from_probability(number)


def tokens_of(answer: Any) -> int:
    """The tokens that a server says it has read, 0 if it does not."""
    usage = answer.get("usage")
    tokens = usage.get("total_tokens", 0) if isinstance(usage, dict) else 0
    return tokens if isinstance(tokens, int) else 0


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _log_mass(tokens: Sequence[tuple[str, float]], word: str) -> float:
    masses = [logprob for token, logprob in tokens if token == word]
    highest = max(masses, default=-math.inf)
    if highest == -math.inf:
        return -math.inf
    return highest + math.log(sum(math.exp(mass - highest) for mass in masses))
