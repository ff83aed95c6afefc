"""What all sources of problems share: options that are checked, a choice among the problems, the text around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.advice import faults
from pyro_llm.study.problem import Problem

PLACE = "{problem}"
"""Stands for the problem in a template."""

AnyProblem = TypeVar("AnyProblem", bound=Problem)


class ProblemSpec(BaseModel):
    """The options of a source of problems; subclasses add their own.

    Attributes:
        number: how many problems are taken; None: all.
        start: how many are passed over first.
        template: what the language model is given, with `{problem}` where the problem is to stand: worked examples, for
            a model that follows no instructions. Nothing else in it is replaced.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int | None = Field(default=None, ge=1)
    start: int = Field(default=0, ge=0)
    template: str = PLACE

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, template: str) -> str:
        if template.count(PLACE) != 1:
            raise ValueError(
                f"it has {PLACE} {template.count(PLACE)} times; write it once, where the problem is to stand"
            )
        return template

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

    def choose(self, problems: Sequence[AnyProblem]) -> list[AnyProblem]:
        r"""Those of the problems that the options ask for, in their template.

        Raises:
            StudyConfigError: there are not so many.

        Example:
            >>> ProblemSpec(start=1, template="Q: {problem}\nA:").choose(
            ...     [Problem("1 + 1?", "2", "a"), Problem("2 + 1?", "3", "b")]
            ... )
            [Problem(prompt='Q: 2 + 1?\nA:', answer='3', source_id='b')]
        """
        end = None if self.number is None else self.start + self.number
        if self.start >= len(problems) > 0:
            raise StudyConfigError(
                f"problems: start: {self.start} are to be passed over, and there are {len(problems)}."
            )
        if end is not None and end > len(problems):
            after = f" after the first {self.start}" if self.start else ""
            raise StudyConfigError(
                f"problems: number: {self.number} are asked for{after}, and there are {len(problems)} in all."
            )
        chosen = problems[self.start : end]
        return [replace(one, prompt=self.template.replace(PLACE, one.prompt)) for one in chosen]
