"""Problems as lines of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyro_llm.errors import ProblemFileError
from pyro_llm.jsonl import read_lines
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.spec import ProblemSpec


class FileSpec(ProblemSpec):
    """A JSONL file.

    Attributes:
        file: its path.
        problem: the field that holds the problem.
        answer: the field that holds the right answer.
        id: the field that names the problem; where a line lacks it, its number does, `line-3`.
    """

    file: Path
    problem: str = "problem"
    answer: str = "answer"
    id: str = "id"


def problems_of_file(spec: Mapping[str, Any]) -> list[Problem]:
    """The problems of a JSONL file, in its order.

    Raises:
        StudyConfigError: an option is wrong.
        ProblemFileError: the file cannot be read, or a line is no problem; it names the line.
    """
    options = FileSpec.of(spec)
    problems = []
    for number, record in read_lines(options.file):
        place = f"{options.file}:{number}"
        if not isinstance(record, dict):
            raise ProblemFileError(f"{place}: not a JSON object.")
        prompt, answer = (_text(record, field, place) for field in (options.problem, options.answer))
        problems.append(Problem(prompt, answer, str(record.get(options.id) or f"line-{number}")))
    return options.choose(problems)


def _text(record: dict[str, Any], field: str, place: str) -> str:
    value = record.get(field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        had = ", ".join(map(repr, record)) or "none"
        raise ProblemFileError(
            f"{place}: the field {field!r} holds no text. The line has the fields {had}; say which they are with "
            "`problem:` and `answer:`."
        )
    return value
