"""Plain JSON over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyro_llm.rewards.counts import set_counts
from pyro_llm.rewards.remote.endpoint import (
    Answer,
    Endpoint,
    Item,
    Scale,
    as_log_odds,
    check_scale,
    check_score_for_each,
    tokens_of,
)


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

    Raises:
        OptionError: there is no such scale, or `batch_size` is no whole number of at least 1.
    """

    scale: Scale = "probability"
    batch_size: int = 32
    texts: str = "texts"
    problems: str | None = "problems"
    scores: str = "scores"
    extra: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        check_scale(self.scale)
        set_counts(self, batch_size=1)

    def payload(self, items: Sequence[Item]) -> Any:
        """Texts and problems."""
        payload = dict(self.extra) | {self.texts: [item.text for item in items]}
        return payload if self.problems is None else payload | {self.problems: [item.problem for item in items]}

    def read(self, items: Sequence[Item], answer: Any) -> Answer:
        """The list of scores."""
        scores = answer[self.scores]
        check_score_for_each(scores, items)
        return Answer([as_log_odds(score, self.scale) for score in scores], tokens_of(answer))
