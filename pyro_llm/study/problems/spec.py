"""What all sources of problems share: options that are checked, and a choice among the problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.advice import faults
from pyro_llm.study.problem import Problem


class ProblemSpec(BaseModel):
    """The options of a source of problems; subclasses add their own.

    Attributes:
        number: the most problems that are taken; None: all.
        start: how many are passed over first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int | None = Field(default=None, ge=1)
    start: int = Field(default=0, ge=0)

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Self:
        """The options that a configuration gives.

        Raises:
            StudyConfigError: one is unknown, or has a value that it cannot have.
        """
        try:
            return cls.model_validate(dict(spec))
        except ValidationError as error:
            raise StudyConfigError(f"problems: {faults(error, cls)}") from error

    def choose(self, problems: Sequence[Problem]) -> list[Problem]:
        """Those of the problems that the options ask for."""
        end = None if self.number is None else self.start + self.number
        return list(problems[self.start : end])
