"""Results as lines of JSON, appended one by one, and taken up again by a later call."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pyro_llm.cli.problems import Problem
from pyro_llm.errors import ProblemFileError, ResultsMismatchError
from pyro_llm.jsonl import append_line, mend, read_lines
from pyro_llm.validation import reason

MAX_NAME = 80


class Result(BaseModel):
    """One line of a file of results.

    Attributes:
        id: of the problem.
        problem: its text.
        seed: with which the same posterior comes out again.
        settings: the options that it depends on.
        answer: the most probable stated answer, None if none was stated.
        probability: of that answer.
        standard_error: of that probability over runs, None where they do not give one.
        answers: all answers, most probable first, with probability and standard error.
        log_evidence: by run, None for a run whose evidence is 0.
        ess: by run.
        text: the text of highest reward among those with that answer.
        cost: what the run spent.
        stopped_by: the item of its budget that ended it, None if it came to its end.
        posterior: the name of the posterior's file, where it was saved.
        expected: the answer that the problem came with.
        right: whether the answer is that one, None if the problem came with none.
        error: what went wrong: the problem could not be solved, and all fields on its solution are None; or its
            posterior could not be saved. Such a problem is done again.
    """

    id: str
    problem: str
    seed: int
    settings: dict[str, Any]
    answer: str | None = None
    probability: float | None = None
    standard_error: float | None = None
    answers: list[tuple[str | None, float, float | None]] | None = None
    log_evidence: list[float | None] | None = None
    ess: list[float] | None = None
    text: str | None = None
    cost: dict[str, float] | None = None
    stopped_by: str | None = None
    posterior: str | None = None
    expected: str | None = None
    right: bool | None = None
    error: str | None = None


def finite(values: Iterable[float]) -> list[float | None]:
    """The values, None for those that JSON has no number for."""
    return [value if math.isfinite(value) else None for value in values]


def read_results(path: Path) -> list[Result]:
    """The results of a former call, none if there is no such file.

    Raises:
        ProblemFileError: a line is no result; it names the line.
    """
    results = []
    try:
        for number, record in read_lines(path) if path.exists() else ():
            try:
                results.append(Result.model_validate(record))
            except ValidationError as error:
                raise ProblemFileError(f"{path}:{number}: not a result of pyro-llm solve: {reason(error)}.") from error
    except ProblemFileError as error:
        raise ProblemFileError(
            f"{error} Remove that line, to have its problem solved anew, or name another --out."
        ) from error
    return results


def mend_results(path: Path) -> bool:
    """Take off a last line that an interrupted call has left half written; whether there was one.

    Raises:
        OutputPathError: the file cannot be changed.
    """
    return mend(path, _is_result)


def _is_result(line: bytes) -> bool:
    try:
        Result.model_validate_json(line)
    except ValidationError:
        return False
    return True


def append(path: Path, result: Result) -> None:
    """Write a result as a further line.

    Raises:
        OutputPathError: the file cannot be written to.
    """
    append_line(path, result.model_dump_json())


def check_settings(path: Path, results: Iterable[Result], settings: dict[str, Any]) -> None:
    """Raise ResultsMismatchError unless the results were made with the same options."""
    for result in results:
        names = [name for name in settings if result.settings.get(name) != settings[name]]
        if names:
            former = ", ".join(f"{name}={result.settings.get(name)!r}" for name in names)
            now = ", ".join(f"{name}={settings[name]!r}" for name in names)
            raise _mismatch(path, result, f"was made with {former}, and now it is {now}")


def check_problem(path: Path, result: Result, problem: Problem, seed: int | None) -> None:
    """Raise ResultsMismatchError unless the result is that of the problem, with this seed where one was asked for."""
    if result.problem != problem.problem:
        raise _mismatch(path, result, f"is that of another text, {result.problem!r}")
    if result.expected != problem.answer:
        raise _mismatch(path, result, f"was held against the answer {result.expected!r}, not {problem.answer!r}")
    if seed is not None and result.seed != seed:
        raise _mismatch(path, result, "was made with another --seed, or with none")


def _mismatch(path: Path, result: Result, difference: str) -> ResultsMismatchError:
    return ResultsMismatchError(
        f"The result of problem {result.id!r} in {str(path)!r} {difference}. To keep it, choose another --out; to "
        "solve the problems anew, remove the file (or that line of it)."
    )


def file_name(identifier: str) -> str:
    """A file name for a posterior: the id where that will do, else what is left of it and a hash of it."""
    name = re.sub(r"[^\w.\-]|^[.\-]", "_", identifier, flags=re.ASCII)[:MAX_NAME]
    if name != identifier:
        name += "-" + hashlib.sha256(identifier.encode()).hexdigest()[:10]
    return f"{name}.nc"
