"""The results of a study: one row a run, appended as they come, taken up again after an interruption."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from pyro_llm.errors import OutputPathError, StudyFolderError
from pyro_llm.jsonl import append_line, mend
from pyro_llm.study.words import counted
from pyro_llm.validation import reason

FILE = "rows.jsonl"


class Row(BaseModel):
    """One run: an algorithm on a problem, with a budget and a seed.

    Attributes:
        key: names what was run, see `Cell.key`.
        variant: label of the variant.
        algorithm: label of the algorithm.
        kind: of the budget.
        budget: its size.
        seed: of the repetition.
        problem: the id of the problem.
        decision: the answer that the algorithm gives; None: no answer.
        right: whether it is right. A run that failed is not.
        probability: of the decision, where the algorithm gives one.
        ess: effective sample size of the final weights, mean over runs; None where there are no weights.
        log_evidence: of all runs together; None where there is none, or the evidence is 0.
        cost: every field of `Cost`.
        stopped_by: the item of the budget that ended the run, if one did.
        seconds: of wall-clock time; of problems worked on at the same time, a share.
        error: why the run failed; then all fields on what came out are None.
        version: of pyro_llm.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    variant: str
    algorithm: str
    kind: str
    budget: float
    seed: int
    problem: str
    decision: str | None = None
    right: bool = False
    probability: float | None = None
    ess: float | None = None
    log_evidence: float | None = None
    cost: dict[str, float] | None = None
    stopped_by: str | None = None
    seconds: float | None = None
    error: str | None = None
    version: str = ""

    @property
    def amount(self) -> str:
        """The budget in words."""
        return counted(self.budget, self.kind)


class RowFile:
    """The rows of a folder.

    Args:
        folder: where they are, or are to be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / FILE

    @contextmanager
    def locked(self) -> Iterator[bool]:
        """Keep the folder to oneself, made if need be; whether a last line was dropped that was cut off.

        The lock ends with the process, however that ends.

        Raises:
            StudyFolderError: another process works in it.
            OutputPathError: it cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = self.path.open("a")
        except OSError as error:
            raise OutputPathError(f"Cannot write to {str(self.folder)!r}: {error.strerror or error}.") from error
        with held:
            _lock(held, self.folder)
            yield mend(self.path, _is_row)

    def read(self) -> dict[str, Row]:
        """The rows by key; of several with one key (failed, then done again) the last. None if there is no file.

        Nothing is locked or changed: another process may be writing. A last line without its end, which that process
        has begun, or left behind, is passed over.

        Raises:
            StudyFolderError: the file cannot be read, or a line is no row; it names the line.
        """
        rows: dict[str, Row] = {}
        try:
            lines = self.path.read_bytes().splitlines(keepends=True) if self.path.exists() else []
        except OSError as error:
            raise StudyFolderError(f"Cannot read {str(self.path)!r}: {error.strerror or error}.") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = Row.model_validate_json(line)
            except ValidationError as error:
                if number == len(lines) and not line.endswith(b"\n"):
                    break
                raise StudyFolderError(f"{self.path}:{number}: not a row of a study: {reason(error)}.") from error
            rows[row.key] = row
        return rows

    def append(self, row: Row) -> None:
        """Write a row; when this returns the disk has it.

        Raises:
            OutputPathError: the file cannot be written to.
        """
        append_line(self.path, row.model_dump_json())

    def check_belongs(self, rows: Iterable[Row], keys: Collection[str], changes: str) -> None:
        """Raise StudyFolderError if a row is none of the study with these keys.

        Args:
            rows: those in the file.
            keys: of all results of the study.
            changes: what is known of the difference.
        """
        for row in rows:
            if row.key not in keys:
                label = " ".join(filter(None, [row.variant, row.algorithm]))
                raise StudyFolderError(
                    f"{str(self.folder)!r} holds results of another study, or of this one before its configuration was "
                    f"changed: among them a run of {label} with {row.amount} and seed {row.seed} on the problem "
                    f"{row.problem!r}, which this configuration does not have.{changes} Choose another folder (--out). "
                    "A study may gain problems, algorithms, budgets, seeds and variants in its folder, but nothing in "
                    "it may change or go."
                )


def _is_row(line: bytes) -> bool:
    try:
        Row.model_validate_json(line)
    except ValidationError:
        return False
    return True


def _lock(file: Any, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StudyFolderError(
            f"Another process is writing results into {str(folder)!r}: wait for it, or choose another folder (--out)."
        ) from error
