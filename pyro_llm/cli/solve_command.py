"""The commands that make a posterior and show one: `solve` and `report`."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pyro_llm.cli.budget import read_budget
from pyro_llm.cli.options import SolveOptions

if TYPE_CHECKING:
    from pyro_llm.cli.votes import KnownVotes
    from pyro_llm.rewards import Calibration

MODEL, INFERENCE, OUTPUT = "Model", "Inference", "Output"


def solve(
    problem: Annotated[str | None, typer.Argument(help="The problem. Or give a file of problems with --file.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help='Problems as JSONL: "problem", optional "id" and "answer" (to count right ones).'),
    ] = None,
    lm: Annotated[
        str,
        typer.Option(
            help="Language model: an embedded one, a Hugging Face id, a folder, a .gguf file.", rich_help_panel=MODEL
        ),
    ] = "abacus",
    reward: Annotated[
        str,
        typer.Option(
            help="Process reward model: an embedded one, a Hugging Face id, a folder, the address of a server.",
            rich_help_panel=MODEL,
        ),
    ] = "abacus",
    calibration: Annotated[
        Path | None,
        typer.Option(help="Calibrate the reward by this file of `pyro-llm calibrate`.", rich_help_panel=MODEL),
    ] = None,
    votes: Annotated[
        Path | None,
        typer.Option(
            help="People's votes on prefixes, a file of `pyro-llm review` (JSONL or .csv): they steer the particles.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    reliability: Annotated[
        float,
        typer.Option(
            help="How often voters are right, on average; known as if from 20 tests of each.", rich_help_panel=MODEL
        ),
    ] = 0.9,
    raters: Annotated[
        Path | None,
        typer.Option(
            help="What is known of the voters: a file of `RaterPosterior.save`, instead.", rich_help_panel=MODEL
        ),
    ] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="Most steps of a solution.", rich_help_panel=MODEL)] = 12,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a step.", rich_help_panel=MODEL)] = 32,
    temperature: Annotated[float, typer.Option(help="Of the language model, above 0.", rich_help_panel=MODEL)] = 1.0,
    top_p: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Draw tokens from the likeliest that make up this share.", rich_help_panel=MODEL
        ),
    ] = 1.0,
    top_k: Annotated[
        int, typer.Option(min=0, help="Draw tokens from this many likeliest; 0: from all.", rich_help_panel=MODEL)
    ] = 0,
    stop: Annotated[
        str, typer.Option(help=r"String that ends a step; \n is a newline, \t a tab.", rich_help_panel=MODEL)
    ] = r"\n",
    device: Annotated[str | None, typer.Option(help="Where models run: cpu, cuda, ...", rich_help_panel=MODEL)] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16", "float16"] | None,
        typer.Option(help="Floating type of the weights; by default the checkpoint's.", rich_help_panel=MODEL),
    ] = None,
    particles: Annotated[int, typer.Option(min=1, help="Particles of each run.", rich_help_panel=INFERENCE)] = 64,
    runs: Annotated[
        int, typer.Option(min=1, help="Independent runs; their spread gives the error bars.", rich_help_panel=INFERENCE)
    ] = 4,
    ess_threshold: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Resample below this share of particles: 0 never, 1 always.", rich_help_panel=INFERENCE
        ),
    ] = 0.5,
    concurrent: Annotated[
        int,
        typer.Option(
            min=1, help="Problems of a --file that are worked on at a time, in batches.", rich_help_panel=INFERENCE
        ),
    ] = 8,
    budget: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ITEM=LIMIT",
            help="What each problem may spend at most, once for each item: generations, lm_tokens, lm_tokens_sampled, "
            "lm_tokens_forwarded, reward_tokens, reward_calls, seconds, dollars (with --prices).",
            rich_help_panel=INFERENCE,
        ),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option(
            help='Prices as JSON, dollars for a million tokens: {"lm_input": 0.1, "lm_output": 0.4, "reward_input": '
            '0.1}; or for an hour: {"hour": 2}.',
            rich_help_panel=INFERENCE,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**32 - 1,
            help="For the same run again; drawn and shown if not given.",
            rich_help_panel=INFERENCE,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the posterior to this netCDF file (run.nc). With --file: results to a .jsonl file, or to a "
            "folder together with the posteriors; what a former call finished there is not done again.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw the posterior into this file (run.png, .svg, .pdf).", rich_help_panel=OUTPUT),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write a page with the answers and the genealogy of reasoning (run.html).", rich_help_panel=OUTPUT
        ),
    ] = None,
) -> None:
    """Solve a problem, or a file of them: the posterior of the answer, its evidence, and how well it was sampled."""
    if (problem is None) == (file is None):
        raise typer.BadParameter("Give either a problem or --file.")
    if problem is not None and not problem.strip():
        raise typer.BadParameter("The problem is blank.")
    if file is not None and (plot is not None or report is not None):
        raise typer.BadParameter(
            "--plot and --report show one problem; with --file, save the posteriors in a folder (--out), show those."
        )
    if not 0 < temperature < float("inf"):
        raise typer.BadParameter("--temperature must be positive; for nearly greedy draws take 0.01.")
    if top_p == 0:
        raise typer.BadParameter("--top-p must be positive; for the likeliest token alone take --top-k 1.")
    if not stop:
        raise typer.BadParameter(r"--stop is empty: give the string that ends a step, \n for a newline.")
    options = SolveOptions(
        lm=lm, reward=reward, calibration=_calibration(calibration, reward), max_steps=max_steps,
        max_tokens=max_tokens, temperature=temperature, top_p=top_p,
        top_k=top_k, stop=stop.replace(r"\n", "\n").replace(r"\t", "\t"), device=device, dtype=dtype,
        particles=particles, runs=runs, ess_threshold=ess_threshold,
        seed=secrets.randbelow(2**31) if seed is None else seed, seed_was_given=seed is not None,
        budget=read_budget(budget or [], prices), votes=_votes(votes, reliability, raters),
    )  # fmt: skip
    if file is not None:
        from pyro_llm.cli.batch import solve_file

        raise typer.Exit(solve_file(file, options, out, concurrent))
    from pyro_llm.cli.single import solve_one

    solve_one(str(problem), options, out, plot, report)


def _calibration(path: Path | None, reward: str) -> Calibration | None:
    if path is None:
        return None
    from pyro_llm.rewards import load_calibration

    return load_calibration(path, reward)


def _votes(path: Path | None, reliability: float, raters: Path | None) -> KnownVotes | None:
    if path is None:
        if raters is not None:
            raise typer.BadParameter("--raters says what is known of those who voted: give their --votes too.")
        return None
    from pyro_llm.cli.votes import KnownVotes
    from pyro_llm.raters import load_votes

    return KnownVotes(load_votes(path), reliability, raters)


def report(
    run: Annotated[Path, typer.Argument(help="A posterior that `pyro-llm solve --out` or `Posterior.save` wrote.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page that is written; by default run.html beside run.nc.")
    ] = None,
) -> None:
    """Write the report of a saved posterior: one page that works offline, with the genealogy of its reasoning."""
    from pyro_llm.cli.outputs import check_outputs, tell_written
    from pyro_llm.errors import PosteriorFileError
    from pyro_llm.infer import Posterior

    if run.is_dir():
        raise PosteriorFileError(f"{run} is a folder; for a study there is pyro-llm bench-report {run}")
    out = run.with_suffix(".html") if out is None else out
    check_outputs(report=out)
    Posterior.load(run).report(out)
    tell_written("Report", out)
