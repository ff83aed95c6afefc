"""Running a study: what is not in its folder yet, row by row."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyro_llm.errors import StudyConfigError, StudyFolderError
from pyro_llm.files import written_whole
from pyro_llm.infer.options import check_integer
from pyro_llm.study.config import StudyConfig, parse_config
from pyro_llm.study.grading import load_grader
from pyro_llm.study.grid import Cell, Skipped, keys_of, make_grid
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems import load_problems
from pyro_llm.study.progress import RowProgress, StudyProgress
from pyro_llm.study.reading import load_answer
from pyro_llm.study.rows import Row, RowFile
from pyro_llm.study.work import Task
from pyro_llm.study.workers import rows_of

CONFIG_FILE = "study.json"
CHUNK = 8
"""Problems of a task: small, so that all algorithms have met the same problems whenever a study is looked at."""


@dataclass(frozen=True)
class Study:
    """A study and what there is of its results.

    Attributes:
        config: what it is.
        cells: what is run on every problem.
        problems: them all.
        skipped: combinations that do not fit.
        rows: results so far, of cells and problems of this study.
        was_cut_off: whether the file's last line was incomplete when the study was run, and has been dropped.
        folder: of the results; None of a study that has none.
    """

    config: StudyConfig
    cells: list[Cell]
    problems: list[Problem]
    skipped: list[Skipped] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    was_cut_off: bool = False
    folder: Path | None = None

    @property
    def command(self) -> str | None:
        """What goes on with the study, on the command line; None without a folder."""
        if self.folder is None:
            return None
        return shlex.join(["pyro-llm", "bench", str(self.folder / CONFIG_FILE), "--out", str(self.folder)])

    @property
    def failed(self) -> list[Row]:
        """The rows of runs that failed."""
        return [row for row in self.rows if row.error is not None]

    @property
    def size(self) -> int:
        """How many rows there are when it is complete."""
        return len(self.cells) * len(self.problems)


def plan(config: StudyConfig) -> Study:
    """A study with no results yet, everything in its configuration checked but the models.

    Raises:
        StudyConfigError: something in it does not exist, or has a value that it cannot have.
        ProblemFileError: a file of problems cannot be read.
    """
    cells, skipped = make_grid(config)
    for cell in {cell.variant: cell for cell in cells}.values():
        load_answer(cell.setting.answer)
        load_grader(cell.setting.grader)
    return Study(config, cells, load_problems(config.problems), skipped)


def run_study(
    config: StudyConfig,
    folder: str | Path,
    *,
    workers: int = 1,
    limit: int | None = None,
    retry_failed: bool = False,
    progress: StudyProgress = None,
) -> Study:
    """Run what a folder lacks of a study.

    Rows are written as they come, each one safe on the disk before the next; a run that is interrupted or killed goes
    on where it was when it is called again with the same configuration and folder.

    Args:
        config: the study.
        folder: of the results; made if need be.
        workers: processes, each with one thread of torch and models of its own; 1: this process.
        limit: the most problems that are worked on; the first ones.
        retry_failed: whether runs that failed are made again.
        progress: a bar on standard error: yes, no, or (None) a bar if that is a terminal, else lines; or a
            function called with each row.

    Returns:
        The study with all rows of the folder.

    Raises:
        StudyConfigError: the configuration is wrong; found before anything runs.
        StudyFolderError: the folder holds results of another configuration, or another process writes into it.
        OutputPathError: the folder cannot be written to.
        UnknownModelError: a model cannot be found, as for `load_lm` and `load_reward`.
        OptionError: `workers` or `limit` is not an integer of at least 1.
    """
    workers = check_integer("workers", workers, at_least=1)
    if limit is not None:
        limit = check_integer("limit", limit, at_least=1)
    study, file = plan(config), RowFile(Path(folder))
    with file.locked() as was_cut_off:
        rows = _own_rows(study, file)
        _write_config(config, file.folder)
        tasks = _to_do(study, rows, limit, retry_failed)
        with (
            RowProgress(progress, tasks, config.name, len(rows), file.folder) as show,
            closing(rows_of(iter(tasks), workers)) as made,
        ):
            for row in made:
                file.append(row)
                rows[row.key] = row
                show(row)
    return _with_rows(study, rows, was_cut_off, file.folder)


def read_study(folder: str | Path) -> Study:
    """A study from its folder, with the rows that there are; another process may be adding to them.

    Raises:
        StudyFolderError: there is none, or its file of rows holds something else.
        ProblemFileError: its problems are in a file that is no longer there.
    """
    file = RowFile(Path(folder))
    if not (file.folder / CONFIG_FILE).is_file():
        raise StudyFolderError(f"{str(folder)!r} holds no study: there is no {CONFIG_FILE} in it.")
    study = plan(parse_config(_stored(file.folder)))
    return _with_rows(study, _own_rows(study, file), False, file.folder)


def _own_rows(study: Study, file: RowFile) -> dict[str, Row]:
    rows = file.read()
    if rows:
        stored, now = _stored(file.folder), _to_store(study.config)
        changed = ", ".join(name for name in now if stored.get(name) != now[name])
        hint = f" What changed since is in: {changed}." if changed else ""
        file.check_belongs(rows.values(), keys_of(study.cells, study.problems), hint)
    return rows


def _stored(folder: Path) -> Mapping[str, object]:
    try:
        stored = json.loads((folder / CONFIG_FILE).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise StudyFolderError(f"Cannot read {str(folder / CONFIG_FILE)!r}: {error}.") from error
    if not isinstance(stored, dict):
        raise StudyConfigError(f"{str(folder / CONFIG_FILE)!r} holds no study.")
    return stored


def _write_config(config: StudyConfig, folder: Path) -> None:
    with written_whole(folder / CONFIG_FILE) as path:
        path.write_text(json.dumps(_to_store(config), indent=2, ensure_ascii=False) + "\n", "utf-8")


def _to_store(config: StudyConfig) -> dict[str, Any]:
    """The configuration with the paths of its problems whole, so that the folder is read from any directory."""
    dumped = config.model_dump(mode="json")
    problems = dumped["problems"]
    paths = {key: str(Path(problems[key]).resolve()) for key in ("file", "path") if problems.get(key) is not None}
    return dumped | {"problems": problems | paths}


def _to_do(study: Study, rows: Mapping[str, Row], limit: int | None, retry_failed: bool) -> list[Task]:
    """What is to be run, a few problems after the others, each of all cells."""

    def lacks(cell: Cell, problem: Problem) -> bool:
        row = rows.get(cell.key(problem))
        return row is None or (retry_failed and row.error is not None)

    problems = study.problems[:limit]
    size = max(CHUNK, 4 * study.config.concurrent)
    return [
        Task(cell, missing, study.config.concurrent)
        for chunk in _chunks(problems, size)
        for cell in study.cells
        if (missing := tuple(problem for problem in chunk if lacks(cell, problem)))
    ]


def _chunks(problems: Sequence[Problem], size: int) -> Iterator[Sequence[Problem]]:
    for start in range(0, len(problems), size):
        yield problems[start : start + size]


def _with_rows(study: Study, rows: Mapping[str, Row], was_cut_off: bool, folder: Path) -> Study:
    keys = (cell.key(problem) for cell in study.cells for problem in study.problems)
    ordered = [rows[key] for key in keys if key in rows]
    return Study(study.config, study.cells, study.problems, study.skipped, ordered, was_cut_off, folder)
