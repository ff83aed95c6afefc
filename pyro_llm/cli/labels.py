"""Scores of known outcome as lines of JSON."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pyro_llm.errors import ProblemFileError
from pyro_llm.jsonl import read_lines
from pyro_llm.rewards.log_odds import from_probability
from pyro_llm.validation import reason


class LabelledScore(BaseModel):
    """One line; further fields are left alone."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    score: Annotated[float, Field(ge=0, le=1)] | None = None
    log_odds: Annotated[float, Field(allow_inf_nan=False)] | None = None
    label: Annotated[int, Field(ge=0, le=1)]
    group: str | None = None

    @field_validator("score", "log_odds", mode="before")
    @classmethod
    def _is_number(cls, value: Any) -> Any:
        if isinstance(value, bool | str):
            raise ValueError("must be a number")
        return value

    @field_validator("label", mode="before")
    @classmethod
    def _is_label(cls, value: Any) -> Any:
        if value not in (0, 1) or isinstance(value, str):
            raise ValueError("must be 0, 1, false or true")
        return int(value)

    @model_validator(mode="after")
    def _has_one_score(self) -> LabelledScore:
        if (self.score is None) == (self.log_odds is None):
            raise ValueError('give either "score" (a probability) or "log_odds"')
        return self


class LabelledScores(NamedTuple):
    """The columns of a file, all of shape `[rows]`.

    Attributes:
        log_odds: of the scores, float64; infinite for scores of exactly 0 and 1.
        labels: 0 or 1.
        groups: a number for each group; rows without one are groups of their own.
    """

    log_odds: NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]


def read_labels(path: Path, allow_certain: bool) -> LabelledScores:
    """Read a JSONL file of scores and labels.

    Args:
        path: of the file.
        allow_certain: whether a score may be exactly 0 or 1.

    Raises:
        ProblemFileError: the file cannot be read or is empty, or a line is no labelled score; it names the line.
    """
    log_odds, labels, groups = [], [], []
    numbers: dict[str, int] = {}
    for number, record in read_lines(path):
        try:
            row = LabelledScore.model_validate(record)
        except ValidationError as error:
            raise ProblemFileError(f"{path}:{number}: {reason(error)}.") from error
        value = row.log_odds if row.score is None else from_probability(row.score)
        assert value is not None  # by the model's own check
        if math.isinf(value) and not allow_certain:
            raise ProblemFileError(
                f"{path}:{number}: the score is exactly {row.score:g}, and its log-odds are infinite. Give the "
                "log_odds from before they were rounded, or take --method isotonic."
            )
        log_odds.append(value)
        labels.append(row.label)
        groups.append(numbers.setdefault(f"row {number}" if row.group is None else f"group {row.group}", len(numbers)))
    if not labels:
        raise ProblemFileError(f"{str(path)!r} holds no scores: every line is empty.")
    return LabelledScores(np.array(log_odds), np.array(labels), np.array(groups))
