"""Reward models that vLLM serves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyro_llm.rewards.remote.endpoint import (
    Answer,
    Endpoint,
    Item,
    Scale,
    as_log_odds,
    as_number,
    check_batch_size,
    check_count,
    check_scale,
    check_template,
    tokens_of,
)


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
        wrong, right = (as_number(value) for value in values)
        if self.scale == "log_odds":
            return right - wrong
        if not (wrong >= 0 and right >= 0 and abs(wrong + right - 1) < 1e-2):
            raise ValueError(f"the probabilities of two classes are {wrong} and {right}")
        return (math.log(right) if right else -math.inf) - (math.log(wrong) if wrong else -math.inf)
