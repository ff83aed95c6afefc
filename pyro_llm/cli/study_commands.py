"""The commands that compare algorithms: `bench` runs a study, `bench-report` reports one, `bench-check` its grader."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

STUDY, WORK = "Study", "Work"


def bench(
    config: Annotated[
        Path | None, typer.Argument(help="The study as YAML. Or say with the options below what it is.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of results; what is there is not run again. Default: runs/ and the study's name."),
    ] = None,
    problems: Annotated[
        str | None,
        typer.Option(help="A built-in set (abacus), or a JSONL file (my.jsonl).", rich_help_panel=STUDY),
    ] = None,
    number: Annotated[int | None, typer.Option(min=1, help="How many of the problems.", rich_help_panel=STUDY)] = None,
    lm: Annotated[str | None, typer.Option(help="Language model, as for solve.", rich_help_panel=STUDY)] = None,
    reward: Annotated[str | None, typer.Option(help="Reward, as for solve.", rich_help_panel=STUDY)] = None,
    algorithm: Annotated[
        list[str] | None,
        typer.Option(help="An algorithm of pyro_llm.infer, again for each; or LABEL=NAME.", rich_help_panel=STUDY),
    ] = None,
    generations: Annotated[
        str | None, typer.Option(help="Budgets in generations: 1,4,16,64.", rich_help_panel=STUDY)
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Of the repetitions: 0,1,2.", rich_help_panel=STUDY)] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="Any other part: KEY=VALUE, as program.temperature=0.8; YAML.", rich_help_panel=STUDY
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each with models of its own and one thread.", rich_help_panel=WORK)
    ] = 1,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many problems for now.", rich_help_panel=WORK)
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Make runs that failed again.", rich_help_panel=WORK)
    ] = False,
) -> None:
    """Compare algorithms at equal budget: problems × algorithms × budgets × seeds, resumed after an interruption."""
    from pyro_llm.cli.bench import run_bench, study_options

    given = study_options(problems, number, lm, reward, algorithm, generations, seeds, option)
    raise typer.Exit(run_bench(config, given, out, workers, limit, retry_failed))


def bench_report(
    folder: Annotated[Path, typer.Argument(help="What `pyro-llm bench` wrote into.")],
    cost: Annotated[
        str, typer.Option(help="Budget that the scaling rate compares: generations, total_tokens, seconds, ...")
    ] = "generations",
    reference: Annotated[
        str | None, typer.Option(help="Label of the algorithm that the others are held against. Default: the study's.")
    ] = None,
    at_budget: Annotated[
        float | None,
        typer.Option(help="Scaling rates at the accuracy that the reference has with this budget. Default: its best."),
    ] = None,
) -> None:
    """The table of a study so far, and its report as a page (report.html) and as Markdown (report.md).

    What budget does each algorithm need to be right as often as beam search with 64 generations?
    pyro-llm bench-report FOLDER --reference "beam search" --at-budget 64
    """
    from pyro_llm.cli.bench import report_bench

    report_bench(folder, cost, reference, at_budget)


def bench_check(
    file: Annotated[Path, typer.Argument(help="Problems with solutions and answers as JSONL, MATH500 say.")],
    solution: Annotated[str, typer.Option(help="Field of the solution.")] = "solution",
    answer: Annotated[str, typer.Option(help="Field of the right answer.")] = "answer",
    id: Annotated[str, typer.Option(help="Field that names the problem.")] = "unique_id",
) -> None:
    """Grade a data set's own solutions against its answers, and list those that are not simply the same."""
    from pyro_llm.cli.bench_check import check_file

    raise typer.Exit(check_file(file, solution, answer, id))
