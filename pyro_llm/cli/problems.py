"""Problems and results as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pyro_llm.errors import ProblemFileError


class Problem(BaseModel):
    """One line of a file of problems; further fields are left alone."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    problem: str = Field(min_length=1)
    id: str
    answer: str | None = None


class Result(BaseModel):
    """One line of a file of results.

    Attributes:
        id: of the problem.
        problem: its text.
        seed: with which the same posterior comes out again.
        answer: the most probable stated answer, None if none was stated.
        probability: of that answer.
        standard_error: of that probability over runs, None for a single run.
        answers: all answers, most probable first, with probability and standard error.
        log_evidence: by run.
        ess: by run.
        text: the text of highest reward.
        cost: what the run spent.
        expected: the answer that the problem came with.
        right: whether the answer is that one, None if the problem came with none.
        error: why there is no posterior; all fields on it are then None.
    """

    id: str
    problem: str
    seed: int
    answer: str | None = None
    probability: float | None = None
    standard_error: float | None = None
    answers: list[tuple[str | None, float, float | None]] | None = None
    log_evidence: list[float] | None = None
    ess: list[float] | None = None
    text: str | None = None
    cost: dict[str, float] | None = None
    expected: str | None = None
    right: bool | None = None
    error: str | None = None


def read_problems(path: Path) -> Iterator[tuple[int, Problem]]:
    """Line numbers and problems of a JSONL file, read one by one. Empty lines are skipped.

    A problem without an id gets its line number, `line-3`.

    Raises:
        ProblemFileError: the file cannot be read, or a line is no problem or repeats an id; it names the line.
    """
    seen: dict[str, int] = {}
    for number, record in _records(path):
        if isinstance(record, dict) and record.get("id") is None:
            record["id"] = f"line-{number}"
        try:
            problem = Problem.model_validate(record)
        except ValidationError as error:
            raise ProblemFileError(f"{path}:{number}: {_reason(error)}") from error
        if problem.id in seen:
            raise ProblemFileError(
                f"{path}:{number}: the id {problem.id!r} was used in line {seen[problem.id]} already."
            )
        seen[problem.id] = number
        yield number, problem


def read_results(path: Path) -> list[Result]:
    """The results of a former call, none if there is no such file.

    Raises:
        ProblemFileError: a line is no result; it names the line.
    """
    results = []
    for number, record in _records(path) if path.exists() else ():
        try:
            results.append(Result.model_validate(record))
        except ValidationError as error:
            raise ProblemFileError(f"{path}:{number}: not a result of pyro-llm solve: {_reason(error)}") from error
    return results


def _records(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        record = json.loads(line)
                    except json.JSONDecodeError as error:
                        raise ProblemFileError(
                            f"{path}:{number}: not JSON: {error.msg} at column {error.colno}."
                        ) from error
                    yield number, record
    except (OSError, UnicodeDecodeError) as error:
        raise ProblemFileError(f"Cannot read {str(path)!r}: {error}.") from error


def _reason(error: ValidationError) -> str:
    faults = (f"{'.'.join(map(str, fault['loc'])) or 'the line'}: {fault['msg']}" for fault in error.errors())
    return "; ".join(faults) + "."


def same_answer(left: str, right: str) -> bool:
    """Whether two answers agree, as texts or as numbers ("1,000" is "1000.0")."""
    left, right = left.strip(), right.strip()
    try:
        return left == right or float(left.replace(",", "")) == float(right.replace(",", ""))
    except ValueError:
        return False
