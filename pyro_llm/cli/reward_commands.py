"""The commands about what judges: `calibrate` and `review`; and `models`, which shows what is embedded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def calibrate(
    data: Annotated[
        Path,
        typer.Argument(
            help='Scores of known outcome as JSONL: "log_odds" (or "score", a probability), "label" (0 or 1), and '
            'optional "group": rows that belong together, the steps of one problem say.'
        ),
    ],
    method: Annotated[
        Literal["platt", "temperature", "isotonic", "beta"], typer.Option(help="The calibration that is fitted.")
    ] = "platt",
    out: Annotated[
        Path | None, typer.Option(help="Write the calibration, fitted on all rows, to this file (calibration.json).")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the reliability before and after into this file (.png, .svg, .pdf).")
    ] = None,
    reward: Annotated[
        str | None, typer.Option(help="Name of the reward that gave the scores; `solve` then refuses it for others.")
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Each is held against a fit on the others.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of the folds and the bootstrap.")] = 0,
) -> None:
    """Calibrate a reward on scores of known outcome, and show what that changes on rows it was not fitted on."""
    from pyro_llm.cli.calibrate import calibrate_file

    calibrate_file(data, method, out, plot, reward, folds, seed)


def review(
    run: Annotated[Path, typer.Argument(help="A posterior that `pyro-llm solve --out` wrote (run.nc).")],
    votes: Annotated[
        Path | None,
        typer.Option(
            help="File of votes, JSONL or .csv: those in it count, each new one is appended. Default: run.votes.jsonl."
        ),
    ] = None,
    rater: Annotated[str, typer.Option(help="Who votes.")] = "person",
    count: Annotated[int, typer.Option(min=0, help="Most questions; 0: only condition on the votes in the file.")] = 5,
    reliability: Annotated[
        float,
        typer.Option(help="How often voters are right, on average; known as if from 20 tests of each."),
    ] = 0.9,
    raters: Annotated[
        Path | None, typer.Option(help="What is known of the voters: a file of `RaterPosterior.save`, instead.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the posterior given the votes to this netCDF file.")] = None,
) -> None:
    """Vote on the prefixes that tell most about the answer; the posterior given the votes."""
    from pyro_llm.cli.review import review as review_run

    review_run(run, votes, rater, count, reliability, raters, out)


def models() -> None:
    """Show the embedded models with their measured figures."""
    from pyro_llm.cli.cards import show_cards

    show_cards()
