"""Problems as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from pyro_llm.errors import ProblemFileError
from pyro_llm.jsonl import read_lines
from pyro_llm.validation import reason


def _encodable(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise PydanticCustomError("surrogate", "holds half of a surrogate pair, which is no character")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


Text = Annotated[str, AfterValidator(_encodable)]
Statement = Annotated[Text, AfterValidator(_not_blank)]


class Problem(BaseModel):
    """One line of a file of problems; further fields are left alone."""

    model_config = ConfigDict(extra="ignore", coerce_numbers_to_str=True)

    problem: Statement
    id: Statement
    answer: Text | None = None


def read_problems(path: Path) -> Iterator[tuple[int, Problem]]:
    """Line numbers and problems of a JSONL file, read one by one. Empty lines are skipped.

    A problem without an id gets its line number, `line-3`.

    Raises:
        ProblemFileError: the file cannot be read, or a line is no problem or repeats an id; it names the line. Or
            there is no problem in it.
    """
    seen: dict[str, int] = {}
    for number, record in read_lines(path):
        if isinstance(record, dict) and record.get("id") is None:
            record["id"] = f"line-{number}"
        try:
            problem = Problem.model_validate(record)
        except ValidationError as error:
            raise ProblemFileError(f"{path}:{number}: {reason(error)}.") from error
        if problem.id in seen:
            raise ProblemFileError(
                f"{path}:{number}: the id {problem.id!r} was used in line {seen[problem.id]} already."
            )
        seen[problem.id] = number
        yield number, problem
    if not seen:
        raise ProblemFileError(f"{str(path)!r} holds no problems: every line is empty.")
