"""Our results beside the paper's, as a table in Markdown.

Usage: python -m studies.paper.beside FOLDER

FOLDER is what `pyro-llm bench studies/paper/math500.yaml --out FOLDER` has filled, in whole or in part. One line for
each policy, algorithm and budget that the paper has a figure for; the paper gives no intervals. Its particle filter
stands beside the one "as published", which answers as the paper's does; the study's line "particle filter" is ours.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from pyro_llm.errors import StudyConfigError
from pyro_llm.study import read_study
from pyro_llm.study.results import Results, tabulate
from pyro_llm.study.summary import summarise

PUBLISHED = Path(__file__).with_name("published.json")
SINGLE = ("one sample", "greedy")
"""Of one generation, whatever the budget of the table that they stand in."""
AS_PUBLISHED = "particle filter, as published"


@dataclass(frozen=True)
class Beside:
    """A figure of the paper and what there is of ours.

    Attributes:
        policy: the language model.
        algorithm: as the paper names it.
        budget: in generations.
        published: accuracy in percent.
        ours: accuracy with its interval, as the report writes it; None where it has not been run.
    """

    policy: str
    algorithm: str
    budget: int
    published: float
    ours: str | None


def published(name: str) -> dict[str, dict[str, dict[str, float]]]:
    """The paper's figures on a set, by policy, budget and algorithm.

    Raises:
        StudyConfigError: it has none on that set.
    """
    sets = json.loads(PUBLISHED.read_text("utf-8"))["sets"]
    if name not in sets:
        raise StudyConfigError(f"The paper has figures on {', '.join(sets)}, and none on {name!r}.")
    return sets[name]


def beside(results: Results) -> list[Beside]:
    """All figures of the paper on the set of a study, with ours.

    Raises:
        StudyConfigError: the paper has none on that set.
    """
    ours = {(line.variant, line.algorithm, int(line.budget)): str(line.accuracy) for line in summarise(results)}
    return [
        Beside(policy, algorithm, budget, figure, ours.get((policy, _label(algorithm), budget)))
        for policy, by_budget in published(str(results.study.config.problems.get("set"))).items()
        for table, figures in by_budget.items()
        for algorithm, figure in figures.items()
        for budget in [1 if algorithm in SINGLE else int(table)]
    ]


def _label(algorithm: str) -> str:
    """The study's label of what the paper has a figure for; a sample of the model is a filter of one particle."""
    return AS_PUBLISHED if algorithm in ("particle filter", "one sample") else algorithm


def table(lines: list[Beside]) -> str:
    """The lines as Markdown."""
    head = ["policy", "algorithm", "generations", "paper, %", "here [95 %]"]
    rules = [":--", ":--", "--:", "--:", "--:"]
    rows = [
        [one.policy, one.algorithm, str(one.budget), f"{one.published:.1f}", one.ours or "not run"] for one in lines
    ]
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, rules, *rows])


def main(folder: Annotated[Path, typer.Argument(help="What `pyro-llm bench` wrote into.")]) -> None:
    """Print the table."""
    print(table(beside(tabulate(read_study(folder)))), end="")


if __name__ == "__main__":
    typer.run(main)
