"""Mutation check: the exactness suite fails when the engine is broken, in each of the stated ways.

Usage: python tests/mutation/check.py [--only TEXT]

Works on copies of the package and the tests in a temporary directory. First all tests concerned must pass on the copy
as it is. Then, mutant by mutant, one text is replaced, and some test must fail by an assertion (a crash shows nothing).
Exits with 1 if a mutant survives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from mutants import MUTANTS, Mutant
from rich.console import Console
from rich.markup import escape
from rich.table import Table

ROOT = Path(__file__).parents[2]
PACKAGE = "pyro_llm"
TIME_LIMIT = 120
FAILED = re.compile(r"^FAILED \S*?::(?P<test>\S+) - (?P<reason>.*)$", re.MULTILINE)
BY_ASSERTION = re.compile(r"assert|AssertionError")


class Verdict(NamedTuple):
    """What became of a mutant."""

    caught: bool
    test: str
    reason: str


def copy_of_the_repository(into: Path) -> Path:
    """The package, its tests and the settings of pytest, copied."""
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for folder in (PACKAGE, "tests"):
        shutil.copytree(ROOT / folder, into / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", into)
    return into


def python(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy, and leave no bytecode that a later run could mistake for that of another mutant."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "300"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT, check=False
    )


def run_tests(copy: Path, tests: Iterable[str]) -> subprocess.CompletedProcess[str]:
    """Run a selection of the tests up to the first failure."""
    return python(copy, "-m", "pytest", "-x", "-q", "--tb=line", "-p", "no:cacheprovider", *tests)


def check_unbroken(copy: Path, mutants: Iterable[Mutant]) -> None:
    """Exit if the tests do not run on the copy, or do not pass there."""
    where = python(copy, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)").stdout.strip()
    if not where or not Path(where).resolve().is_relative_to(copy.resolve()):
        raise SystemExit(f"The tests would not run on the copy in {copy}, but on {where or 'nothing'}.")
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    run = run_tests(copy, tests)
    if run.returncode != 0:
        raise SystemExit(f"The tests must pass before anything is broken:\n{run.stdout[-4000:]}{run.stderr[-2000:]}")


def broken(source: str, mutant: Mutant) -> str:
    """The source with the mutant's text replaced."""
    if source.count(mutant.old) != 1:
        raise SystemExit(
            f"{mutant.name}: {mutant.file} has this text {source.count(mutant.old)} times, not once:\n{mutant.old}"
        )
    return source.replace(mutant.old, mutant.new)


def judge(copy: Path, mutant: Mutant) -> Verdict:
    """Break the copy, run the tests, and mend it."""
    file = copy / PACKAGE / mutant.file
    source = file.read_text("utf-8")
    file.write_text(broken(source, mutant), "utf-8")
    try:
        run = run_tests(copy, mutant.tests)
    except subprocess.TimeoutExpired:
        return Verdict(False, "", f"no verdict within {TIME_LIMIT} s")
    finally:
        file.write_text(source, "utf-8")
    if run.returncode == 0:
        return Verdict(False, "", "the tests pass")
    failure = FAILED.search(run.stdout)
    if run.returncode != 1 or failure is None:
        return Verdict(False, "", "pytest did not come to a verdict: " + run.stdout.strip()[-200:])
    test, reason = failure["test"], failure["reason"]
    if not BY_ASSERTION.match(reason):
        return Verdict(False, test, f"crashed, which shows nothing: {reason}")
    return Verdict(True, test, reason.removeprefix("AssertionError: "))


def main(only: Annotated[str, typer.Option(help="Only mutants whose name contains this.")] = "") -> None:
    """Break the engine in each of the stated ways, and show that the exactness suite notices."""
    mutants = [mutant for mutant in MUTANTS if only in mutant.name]
    if not mutants:
        raise SystemExit(f"No mutant's name contains {only!r}.")
    console = Console()
    table = Table("the engine, broken", "file", "noticed by", "as", "seconds", title="Mutation check")
    survivors = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_the_repository(Path(folder))
        with console.status("The tests on the engine as it is") as status:
            check_unbroken(copy, mutants)
            for number, mutant in enumerate(mutants, start=1):
                status.update(f"{number} of {len(mutants)}: {mutant.name}")
                started = time.perf_counter()
                verdict = judge(copy, mutant)
                survivors += not verdict.caught
                seconds = f"{time.perf_counter() - started:.0f}"
                noticed = escape(verdict.test) if verdict.caught else "[bold red]not noticed[/]"
                table.add_row(mutant.name, mutant.file, noticed, escape(verdict.reason), seconds)
    console.print(table)
    if survivors:
        console.print(f"[bold red]{survivors} of {len(mutants)} mutants survive.[/]")
        raise SystemExit(1)
    console.print(f"All {len(mutants)} mutants are noticed, and nothing fails without one.")


if __name__ == "__main__":
    typer.run(main)
