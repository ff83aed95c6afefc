"""`pyro-llm bench`: a study from a file and options, its table, its report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from pyro_llm.cli.console import errors, output
from pyro_llm.cli.outputs import tell_written
from pyro_llm.errors import StudyConfigError
from pyro_llm.study.config import parse_config
from pyro_llm.study.grid import skipped_in_words
from pyro_llm.study.report import Report, make_report
from pyro_llm.study.results import tabulate
from pyro_llm.study.rows import RowFile
from pyro_llm.study.runner import Study, read_study, run_study
from pyro_llm.study.variants import merged
from pyro_llm.study.words import counted
from pyro_llm.study.yaml_file import parse_yaml, read_yaml

SOME_FAILED = 1
MAX_FAILURES = 5


def study_options(
    problems: str | None,
    number: int | None,
    lm: str | None,
    reward: str | None,
    algorithms: Sequence[str] | None,
    generations: str | None,
    seeds: str | None,
    options: Sequence[str] | None,
) -> dict[str, Any]:
    """The part of a configuration that options of the command line give.

    Raises:
        StudyConfigError: one cannot be read.

    Example:
        >>> study_options("a.jsonl", 5, None, None, ["PF=SMC"], "1,4", None, ["program.top_k=3"])
        ... # doctest: +NORMALIZE_WHITESPACE
        {'problems': {'file': 'a.jsonl', 'number': 5}, 'algorithms': {'PF': {'algorithm': 'SMC'}},
         'budgets': {'generations': [1, 4]}, 'program': {'top_k': 3}}
    """
    given: dict[str, Any] = {"lm": lm, "reward": reward}
    if problems is not None:
        given["problems"] = {"file" if problems.endswith(".jsonl") else "set": problems}
    if number is not None:
        given["problems"] = {**given.get("problems", {}), "number": number}
    if algorithms:
        named = [text.split("=", 1) if "=" in text else [text, text] for text in algorithms]
        for label, times in Counter(label for label, _ in named).items():
            if times > 1:
                raise StudyConfigError(
                    f"--algorithm: {label!r} is given {times} times; LABEL=NAME gives each a label of its own."
                )
        given["algorithms"] = {label: {"algorithm": name} for label, name in named}
    if generations is not None:
        given["budgets"] = {"generations": _numbers("--generations", generations)}
    if seeds is not None:
        given["seeds"] = _numbers("--seeds", seeds)
    given = {key: value for key, value in given.items() if value is not None}
    for text in options or ():
        key, equals, value = text.partition("=")
        if not equals or not all(key.split(".")):
            raise StudyConfigError(f"--option {text!r}: write KEY=VALUE, such as program.temperature=0.8.")
        change: Any = parse_yaml(value, f"--option {key}")
        for part in reversed(key.split(".")):
            change = {part: change}
        given = merged(given, change)
    return given


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise StudyConfigError(f"{option} {text!r}: write integers with commas between them, 1,4,16.") from error


def run_bench(
    file: Path | None, given: dict[str, Any], out: Path | None, workers: int, limit: int | None, retry_failed: bool
) -> int:
    """Run a study, show its table and write its report; the exit code: 1 if a run failed, else 0.

    Raises:
        StudyConfigError: the configuration is wrong; and what else `run_study` raises.
    """
    raw = {} if file is None else read_yaml(file)
    if "problems" in given and set(given["problems"]) & {"set", "file"}:
        raw.pop("problems", None)  # another source has other options
    for whole in {"algorithms", "lm", "reward"} & given.keys():
        raw.pop(whole, None)
    raw = merged(raw, given)
    if set(raw.get("problems") or {}) <= {"number"}:
        raw["problems"] = {"set": "abacus", **(raw.get("problems") or {})}
    if file is None and not {"algorithms", "budgets"} <= raw.keys():
        raise StudyConfigError(
            "Nothing says what is to be compared: give a YAML file, or --algorithm and --generations, such as "
            "--algorithm SMC --algorithm BestOfN --generations 1,4,16."
        )
    with _naming(file):
        config = parse_config(raw)
    folder = Path("runs") / config.name if out is None else out
    try:
        with _naming(file):
            study = run_study(config, folder, workers=workers, limit=limit, retry_failed=retry_failed)
    except KeyboardInterrupt:
        _note(
            f"{counted(len(RowFile(folder).read()), 'rows')} kept in {folder}; the same command goes on with the study."
        )
        raise
    if study.was_cut_off:
        _note(f"The last row in {folder} was cut off; it has been run again.")
    _show(study, folder, "generations")
    return SOME_FAILED if study.failed else 0


@contextmanager
def _naming(file: Path | None) -> Iterator[None]:
    """Have errors of the configuration name the file that it is from."""
    try:
        yield
    except StudyConfigError as error:
        raise error if file is None else StudyConfigError(f"{file}: {error}") from error


def report_bench(folder: Path, cost: str, reference: str | None, at_budget: float | None) -> None:
    """Show the table of a study, and write its report; the options are those of `tabulate` and `make_report`.

    Raises:
        StudyFolderError: the folder holds none, or no problem has been run by every combination.
        StudyConfigError: there is no such reference.
        OptionError: there is no such cost, or the reference has no such budget.
    """
    _show(read_study(folder), folder, cost, reference, at_budget)


def _show(study: Study, folder: Path, cost: str, reference: str | None = None, at_budget: float | None = None) -> None:
    for sentence in skipped_in_words(study.skipped, study.config.variants):
        _note(sentence)
    for row in study.failed[:MAX_FAILURES]:
        _note(f"{row.algorithm}, {row.amount}, problem {row.problem} failed: {row.error}")
    if study.failed:
        _note(f"{len(study.failed)} runs failed and count as wrong; --retry-failed makes them again.")
    report = make_report(tabulate(study, reference), cost, at_budget)
    output.print(_table(report))
    for text in report.notes:
        output.print(Text(text))
    for path in report.write(folder):
        tell_written("Report", path)


def _note(text: str) -> None:
    errors.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=Text(report.title), title_justify="left")
    for name, is_text in report.columns(with_costs=False):
        table.add_column(Text(name), justify="left" if is_text else "right")
    for cells in report.cells(with_costs=False):
        table.add_row(*map(Text, cells))
    return table
