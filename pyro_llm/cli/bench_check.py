"""Grading a data set's own solutions, on the command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import get_args

from rich.markup import escape
from rich.table import Table

from pyro_llm.cli.console import output
from pyro_llm.study.grading.solutions import Verdict, check_solutions

MEANING = {
    "same": "the same text or number",
    "equal": "written otherwise, equal to math-verify",
    "unreadable": "the same text, but math-verify cannot read it",
    "different": "different answers",
    "no answer": "no answer found in the solution",
}


def check_file(path: Path, solution: str, answer: str, identifier: str) -> int:
    """Print what the grader makes of a file's solutions; the exit code is 1 if it finds one wrong."""
    checked = check_solutions(path, (solution, answer, identifier))
    counts = Counter(one.verdict for one in checked)
    table = Table("verdict", "solutions", "", title=f"{len(checked)} solutions of {escape(path.name)}")
    for verdict in get_args(Verdict):
        table.add_row(verdict, str(counts[verdict]), MEANING[verdict])
    output.print(table)
    noticed = [one for one in checked if one.verdict != "same"]
    if noticed:
        listed = Table("id", "verdict", "answer field", "stated by the solution")
        for one in noticed:
            listed.add_row(*map(escape, (one.source_id, one.verdict, one.reference, one.stated or "")))
        output.print(listed)
    return int(not all(one.is_right for one in checked))
