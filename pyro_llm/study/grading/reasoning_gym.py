"""Grading by a task's own verifier."""

from __future__ import annotations

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.reasoning_gym import TaskProblem, package

FULL_SCORE = 1.0


class ReasoningGymGrader:
    """Grades by the verifier of the reasoning-gym task that a problem is of: right is a full score of 1.

    Many tasks give part of the score to an answer in another form; none of it counts here.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
    """

    def __init__(self) -> None:
        package()

    def grade(self, decision: str | None, problem: Problem) -> bool:
        """Whether the task's verifier gives the decision its full score.

        Raises:
            StudyConfigError: the problem is of no task.
        """
        if not isinstance(problem, TaskProblem):
            raise StudyConfigError(
                f"grader: reasoning-gym grades its own tasks alone, and the problem {problem.source_id!r} is of none; "
                "take `problems: {task: ...}`, or another grader."
            )
        entry = {"question": problem.question, "answer": problem.answer, "metadata": dict(problem.metadata)}
        score = package().get_score_answer_fn(problem.task)
        return decision is not None and float(score(decision, entry)) >= FULL_SCORE
