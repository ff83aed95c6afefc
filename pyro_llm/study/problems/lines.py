"""Problems as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyro_llm.errors import ProblemFileError
from pyro_llm.jsonl import read_lines
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.spec import ProblemSpec

_ADVICE = "; say which they are with `problem:` and `answer:`"


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
    for number, place, record in read_records(options.file):
        prompt, answer = (text_field(record, field, place, _ADVICE) for field in (options.problem, options.answer))
        problems.append(Problem(prompt, answer, str(record.get(options.id) or f"line-{number}")))
    return options.choose(problems)


def read_records(path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Line numbers, places and objects of a JSONL file.

    Raises:
        ProblemFileError: the file cannot be read, or a line is no object.
    """
    for number, record in read_lines(path):
        place = f"{path}:{number}"
        if not isinstance(record, dict):
            raise ProblemFileError(f"{place}: not a JSON object.")
        yield number, place, record


def text_field(record: dict[str, Any], field: str, place: str, advice: str = "") -> str:
    """The text, or number, of a field.

    Raises:
        ProblemFileError: it holds none; the message says which fields there are.
    """
    value = record.get(field)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        had = ", ".join(map(repr, record)) or "none"
        raise ProblemFileError(f"{place}: the field {field!r} holds no text. The line has the fields {had}{advice}.")
    return value
