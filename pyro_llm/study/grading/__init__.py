"""Whether a decision is the right answer of its problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.grading.math_verify import MathVerifyGrader
from pyro_llm.study.grading.reasoning_gym import ReasoningGymGrader
from pyro_llm.study.grading.same_answer import SameAnswer, same_answer
from pyro_llm.study.problem import Problem

__all__ = ["GRADERS", "Grader", "MathVerifyGrader", "ReasoningGymGrader", "SameAnswer", "load_grader", "same_answer"]


class Grader(Protocol):
    """Judges decisions."""

    def grade(self, decision: str | None, problem: Problem) -> bool:
        """Whether the decision (None: no answer) is right."""
        ...


GRADERS: dict[str, Callable[[], Grader]] = {
    "same-answer": SameAnswer,
    "math-verify": MathVerifyGrader,
    "reasoning-gym": ReasoningGymGrader,
}
"""From the name of a grader in a configuration to what makes it."""


def load_grader(name: str) -> Grader:
    """The grader of a name.

    Raises:
        StudyConfigError: there is none.
    """
    if name not in GRADERS:
        raise StudyConfigError(f"grader: there is no {name!r}; choose one of {', '.join(GRADERS)}.")
    return GRADERS[name]()
