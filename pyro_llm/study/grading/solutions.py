"""Whether a grader agrees with a data set's own solutions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pyro_llm.answers import answer
from pyro_llm.errors import ProblemFileError
from pyro_llm.study.grading.math_verify import MathVerifyGrader
from pyro_llm.study.grading.same_answer import same_answer
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.lines import read_records, text_field

Verdict = Literal["same", "equal", "unreadable", "different", "no answer"]


@dataclass(frozen=True)
class CheckedSolution:
    """What the grader makes of one solution.

    Attributes:
        source_id: of the problem.
        reference: its answer field.
        stated: the answer that its solution states; None: none.
        verdict: `"same"` text or number; `"equal"` to math-verify alone; `"different"`; `"no answer"` is stated; or
            `"unreadable"`: the same text, but of an answer that math-verify cannot read, or does not find equal to
            itself, so that no other way of writing it would count.
    """

    source_id: str
    reference: str
    stated: str | None
    verdict: Verdict

    @property
    def is_right(self) -> bool:
        """Whether the grader counts the solution as right."""
        return self.verdict in ("same", "equal", "unreadable")


def check_solutions(
    path: Path,
    fields: Sequence[str] = ("solution", "answer", "unique_id"),
    extract: Callable[[str], str | None] = answer,
    timeout: float = 10.0,
) -> list[CheckedSolution]:
    """Grade each solution of a JSONL file against the answer of the same line.

    Args:
        path: the file.
        fields: those that hold the solution, the answer and the name; a line without a name gets its number.
        extract: from a solution to the answer that it states.
        timeout: seconds for one comparison.

    Raises:
        ProblemFileError: the file cannot be read, a line lacks a field, or there is no line.
        MissingExtraError: math-verify is not installed.
    """
    solution, reference, name = fields
    grader, checked = MathVerifyGrader(timeout), []
    for number, place, record in read_records(path):
        problem = Problem("", text_field(record, reference, place), str(record.get(name) or f"line-{number}"))
        stated = extract(text_field(record, solution, place))
        checked.append(CheckedSolution(problem.source_id, problem.answer, stated, _verdict(grader, problem, stated)))
    if not checked:
        raise ProblemFileError(f"{str(path)!r} holds no solutions: every line is empty.")
    return checked


def _verdict(grader: MathVerifyGrader, problem: Problem, stated: str | None) -> Verdict:
    if stated is None:
        return "no answer"
    equal = grader.equal(problem.answer, stated)
    if same_answer(stated, problem.answer):
        return "same" if equal else "unreadable"
    return "equal" if equal else "different"
