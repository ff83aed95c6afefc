"""Judges behind an endpoint for chats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyro_llm.errors import OptionError
from pyro_llm.rewards.counts import set_counts
from pyro_llm.rewards.judges.rubric import RUBRIC
from pyro_llm.rewards.remote.endpoint import Answer, Endpoint, Item, as_number, check_template, tokens_of


@dataclass(frozen=True)
class ChatEndpoint(Endpoint):
    """A judge behind `/v1/chat/completions`: the probabilities of "Yes" and "No" as its next token.

    Among the likeliest next tokens, which a server tells (20 at most), those that say either are added up, in any
    case, with blanks around or not; the log-odds are the logarithm of their ratio. If it tells of one of the two alone,
    the other is given the probability of the least likely token told, which it cannot exceed.

    Args:
        model: the model's name on the server.
        question: the user's message, with `{problem}` and `{text}`; by default that of `JudgeReward`.
        yes: the word for "right".
        no: the word for "wrong".
        top_logprobs: how many of the likeliest tokens are asked for.
        path: of the address.
        extra: what is sent besides, such as `(("chat_template_kwargs", {"enable_thinking": False}),)`.
    """

    model: str
    question: str = RUBRIC.format(problem="{problem}", solution="{text}", options="Yes or No")
    yes: str = "Yes"
    no: str = "No"
    top_logprobs: int = 20
    path: str = "/v1/chat/completions"
    batch_size: int = field(default=1, init=False)
    extra: tuple[tuple[str, Any], ...] = field(default=(), hash=False)

    def __post_init__(self) -> None:
        check_template(self.question)
        set_counts(self, top_logprobs=2)
        if self.top_logprobs > 20:
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
        tokens = [(str(token["token"]).strip().lower(), as_number(token["logprob"])) for token in told]
        yes, no = (_log_mass(tokens, word.strip().lower()) for word in (self.yes, self.no))
        if yes == no == -math.inf:
            said = ", ".join(repr(token) for token, _ in tokens)
            raise ValueError(f"neither {self.yes!r} nor {self.no!r} among the likeliest tokens: {said}")
        least = min(logprob for _, logprob in tokens)
        return Answer([(least if yes == -math.inf else yes) - (least if no == -math.inf else no)], tokens_of(answer))


def _log_mass(tokens: Sequence[tuple[str, float]], word: str) -> float:
    masses = [logprob for token, logprob in tokens if token == word]
    highest = max(masses, default=-math.inf)
    if highest == -math.inf:
        return -math.inf
    return highest + math.log(sum(math.exp(mass - highest) for mass in masses))
