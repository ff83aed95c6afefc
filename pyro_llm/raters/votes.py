"""Votes of people on prefixes of texts, in files."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator

from pyro_llm.errors import OutputPathError, VoteFileError
from pyro_llm.validation import reason

Choice = Literal["yes", "no", "skip"]
_SPELLINGS = {"y": "yes", "true": "yes", "1": "yes", "n": "no", "false": "no", "0": "no", "s": "skip", "": "skip"}
_SHOWN = 20


class Vote(BaseModel):
    """What one rater says of one prefix.

    Attributes:
        prefix: the text since the prompt up to some point: whole lines, or a whole text. Newlines at its end do not
            matter. `text` in files serves too.
        vote: `"yes"`, all of it is right; `"no"`, something is wrong; `"skip"`, no opinion, which counts for nothing.
            Files may say y, n, s, true, false, 1 and 0.
        rater: who says so.
        problem: the prompt; None: the vote is on any text that begins so.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    prefix: str = Field(min_length=1, validation_alias=AliasChoices("prefix", "text"))
    vote: Choice
    rater: str = Field("person", min_length=1)
    problem: str | None = None

    @field_validator("vote", mode="before")
    @classmethod
    def _spelling(cls, value: Any) -> Any:
        word = str(value).strip().lower() if isinstance(value, str | int) else value
        return _SPELLINGS.get(word, word) if isinstance(word, str) else value

    @field_validator("problem", mode="before")
    @classmethod
    def _any_problem(cls, value: Any) -> Any:
        return value or None  # an empty cell of a CSV file


@dataclass(frozen=True)
class Votes:
    r"""Votes in the order they were cast; those that contradict each other all count.

    Examples:
        >>> votes = Votes((Vote(prefix="47 + 48 = 95\n", vote="yes"), Vote(prefix="47 + 48 = 85\n", vote="skip")))
        >>> len(votes), len(votes.on("any problem"))
        (2, 1)
    """

    votes: tuple[Vote, ...] = ()

    @property
    def raters(self) -> tuple[str, ...]:
        """Who voted, in order of appearance."""
        return tuple(dict.fromkeys(vote.rater for vote in self.votes))

    def on(self, problem: str | None) -> tuple[Vote, ...]:
        """The votes, skips left out, that concern texts of a problem (all problems, if None)."""
        concerned = (vote for vote in self.votes if problem is None or vote.problem in (None, problem))
        return tuple(vote for vote in concerned if vote.vote != "skip")

    def with_vote(self, vote: Vote) -> Votes:
        """These votes and a further one."""
        return Votes((*self.votes, vote))

    def __len__(self) -> int:
        return len(self.votes)


def canonical(prefix: str) -> str:
    r"""A prefix without the newlines that end it: with and without them it is the same one to vote on.

    >>> canonical("a\nb\n"), canonical("a\nb")
    ('a\nb', 'a\nb')
    """
    return prefix.rstrip("\n") or "\n"


def matched_prefixes(text: str) -> list[str]:
    r"""The prefixes of a text that a vote can be on, as `canonical` has them: up to the end of each line, and all.

    >>> matched_prefixes("a\nbc\n")
    ['a', 'a\nbc']
    """
    ends = [place for place, character in enumerate(text) if character == "\n"]
    return list(dict.fromkeys(canonical(text[:cut]) for cut in [*(end or 1 for end in ends), len(text)] if cut))


def load_votes(path: str | PathLike[str]) -> Votes:
    """Votes from a file: `.csv` with a header, else JSONL; columns or keys as the attributes of `Vote`.

    A file that is not there holds no votes yet only for `pyro-llm review`; here it is an error.

    Raises:
        VoteFileError: the file cannot be read, or lines are no votes; it names each of them (the first twenty).
    """
    path = Path(path).expanduser()
    votes, faults = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in _rows(file, path.suffix.lower() == ".csv"):
                try:
                    votes.append(Vote.model_validate(json.loads(row) if isinstance(row, str) else row))
                except ValidationError as error:
                    faults.append(f"line {number}: {reason(error)}")
                except (ValueError, RecursionError) as error:
                    faults.append(f"line {number}: not JSON: {error}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VoteFileError(f"Cannot read votes from {str(path)!r}: {error}.") from error
    if faults:
        more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
        raise VoteFileError(f"{str(path)!r} holds lines that are no votes:\n" + "\n".join([*faults[:_SHOWN], *more]))
    return Votes(tuple(votes))


def _rows(file: Any, is_csv: bool) -> Iterator[tuple[int, Any]]:
    """Line numbers and rows: dictionaries from CSV, text from JSONL. Empty lines are left out."""
    if not is_csv:
        yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
        return
    reader = csv.DictReader(file)
    for row in reader:
        yield reader.line_num, {key: value for key, value in row.items() if key is not None and value is not None}


def check_columns(path: str | PathLike[str], rater: str, problem: str | None) -> None:
    """See that a vote of `rater` on `problem` can be appended to a file, if there is one, without losing anything.

    Raises:
        VoteFileError: it is a `.csv` file whose header lacks columns that such a vote needs; the message names them.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".csv" or not path.exists() or path.stat().st_size == 0:
        return
    default = Vote.model_fields["rater"].default
    needed = ["prefix", "vote", *(["rater"] if rater != default else []), *(["problem"] if problem else [])]
    missing = [column for column in needed if column not in _header(path)]
    if missing:
        raise VoteFileError(
            f"The header of {str(path)!r} lacks {', '.join(map(repr, missing))}, which a vote written there would "
            "lose. Add the columns to its first line (rows may leave them out), or write to a file of its own."
        )


def append_vote(path: str | PathLike[str], vote: Vote) -> None:
    """Write a vote as a further line, on the disk when this returns; `.csv` files get a header when they begin.

    Raises:
        OutputPathError: the file cannot be written to.
        VoteFileError: a `.csv` file lacks columns that the vote needs; see `check_columns`.
    """
    path = Path(path).expanduser()
    record = vote.model_dump()
    try:
        check_columns(path, vote.rater, vote.problem)
        begins = not path.exists() or path.stat().st_size == 0
        whole = begins or path.read_bytes().endswith(b"\n")
        with path.open("a", encoding="utf-8", newline="") as file:
            if not whole:
                file.write("\n")
            if path.suffix.lower() == ".csv":
                writer = csv.DictWriter(file, list(record) if begins else _header(path))
                if begins:
                    writer.writeheader()
                writer.writerow({column: record.get(column) for column in writer.fieldnames})
            else:
                file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputPathError(f"Cannot append to {str(path)!r}: {error.strerror or error}.") from error


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = next(csv.reader(file), [])
    return ["prefix" if name == "text" else name for name in names]
