"""One corrupted reward: what particle filtering, best-of-N and beam search lose as more scores are wrong.

Usage: python -m benchmarks.corrupted_reward [--problems 12] [--seeds 12] [--budget 32] [--labels 200]

The embedded process reward gives log-odds of 6 to a share of all prefixes, 0 to 20 percent, chosen by a hash of the
text and the seed. Ways of using it, of `budget` generations each:

- odds: `SMC` with `emission="odds"`, the score is the log-weight, as in the released code of the particle filter;
- odds, noise-aware: the same with `with_error(0.1, 0.05)`, assumed at all rates alike;
- likelihood: `SMC` with `emission="bernoulli"`, the factor is the probability of acceptance, the paper's model;
- likelihood, noise-aware: the same with `with_error(0.1, 0.05)`;
- likelihood, integrated: by the reward's sensitivity and specificity, fitted to 200 labelled prefixes at that rate;
- best of N: of N solutions of the language model the one of highest score;
- beam search: N / 4 beams, 4 continuations each, the highest scores are kept; the highest at the end.

Losses are accuracies less those of the same method at rate 0, paired; 95 percent intervals over problems and seeds.
Figures are written after each seed, of those so far.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyro
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pyro_llm
from benchmarks.corruption import MAX_STEPS, Prefix, interval, labelled_prefixes, models, scores, written
from pyro_llm import zoo
from pyro_llm.infer import SMC, BeamSearch, BestOfN
from pyro_llm.models import ReasoningSSM
from pyro_llm.raters import RaterPosterior, Ratings, fit_raters
from pyro_llm.rewards import Disturbed, RewardModel

RESULTS = Path(__file__).parent / "results" / "corrupted_reward.json"
RATES = (0.0, 0.05, 0.1, 0.2)
ODDS, LIKELIHOOD = ("odds", "odds, noise-aware"), ("likelihood", "likelihood, noise-aware")
METHODS = (*ODDS, *LIKELIHOOD, "likelihood, integrated", "best of N", "beam search")
EXPANSION, CHUNK = 4, 12


def fit(prefixes: list[Prefix], labels: int, rate: float, seed: int) -> RaterPosterior:
    """What labelled prefixes say of the reward."""
    chosen = np.random.default_rng(seed).choice(len(prefixes), labels, replace=False)
    drawn = [prefixes[i] for i in chosen]
    table = np.array([scores(Disturbed(models()[1], "corrupted", rate, seed), drawn)]).T
    pyro.set_rng_seed(seed)
    return fit_raters(Ratings.of(table, [int(prefix.right) for prefix in drawn], ["reward"]), steps=500)


def algorithms(reward: RewardModel, posterior: RaterPosterior, budget: int) -> dict[str, Any]:
    """The ways of using a reward, by the names in `METHODS`."""

    def model(judge: RewardModel, emission: Any = "bernoulli") -> Callable[..., Any]:
        return ReasoningSSM(models()[0], judge, max_steps=MAX_STEPS, emission=emission)

    aware = reward.with_error(0.1, 0.05)
    options = {"num_particles": budget, "progress": False}
    return {
        "odds": SMC(model(reward, "odds"), **options),
        "odds, noise-aware": SMC(model(aware, "odds"), **options),
        "likelihood": SMC(model(reward), **options),
        "likelihood, noise-aware": SMC(model(aware), **options),
        "likelihood, integrated": SMC(model(posterior.reward({"reward": reward})), **options),
        "best of N": BestOfN(model(reward), **options),
        "beam search": BeamSearch(model(reward), beam_width=EXPANSION, **options),
    }


def solve(problems: list[dict], posteriors: dict[float, RaterPosterior], budget: int, seed: int) -> np.ndarray:
    """Whether each method's decision is right. `[methods, problems, rates]`."""
    texts = [problem["problem"] for problem in problems]
    right = np.empty((len(METHODS), len(problems), len(RATES)))
    for r, rate in enumerate(RATES):
        reward = Disturbed(models()[1], "corrupted", rate, seed)
        for m, algorithm in enumerate(algorithms(reward, posteriors[rate], budget).values()):
            runs = algorithm.run_each(texts, concurrent=CHUNK, seeds=[seed] * len(texts), progress=False)
            for p, (run, problem) in enumerate(zip(runs, problems, strict=True)):
                right[m, p, r] = run.decision(pyro_llm.answer) == problem["answer"]
    return right


def main(
    problems: Annotated[int, typer.Option(min=2, max=250, help="How many of the odd test problems.")] = 12,
    seeds: Annotated[int, typer.Option(min=2, help="Corruptions, sets of labels, and runs.")] = 12,
    labels: Annotated[int, typer.Option(min=2, help="Labelled prefixes.")] = 200,
    budget: Annotated[int, typer.Option(min=EXPANSION, help="Generations of each method.")] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print accuracies and losses by rate."""
    started, console = time.perf_counter(), Console(stderr=True)
    every = zoo.problems("abacus")
    labelled, measured = every[0::2], every[1::2][:problems]
    chunks = [measured[i : i + CHUNK] for i in range(0, len(measured), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        prefixes = labelled_prefixes(pool, labelled, labels, console)
        posteriors = [
            {rate: fit(prefixes, labels, rate, seed) for rate in RATES}
            for seed in track(range(seeds), "Raters", console=console)
        ]
        jobs = [(chunk, posteriors[seed], budget, seed) for seed in range(seeds) for chunk in chunks]
        solved: list[np.ndarray] = []
        for one in track(pool.map(solve, *zip(*jobs, strict=True)), "Solving", len(jobs), console=console):
            solved.append(one)
            done, unfinished = divmod(len(solved), len(chunks))
            if done < 2 or unfinished:
                continue
            right = np.concatenate(solved, axis=1).reshape(len(METHODS), done, len(measured), len(RATES))
            size = {"problems": len(measured), "seeds": done, "labels": labels, "budget": budget}
            figures = size | {"seconds": time.perf_counter() - started} | summary(right)
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(figures, indent=2) + "\n")
    for title in ("accuracy", "change_from_rate_0", "odds_noise_aware_loses_less_by", "noise_aware_loses_less_by"):
        table = Table(title.replace("_", " "), *(f"{rate:.0%}" for rate in RATES))
        for name, cells in figures[title].items():
            table.add_row(name, *(written(cell) for cell in cells.values()))
        Console().print(table)


def summary(right: np.ndarray) -> dict[str, Any]:
    """Figures of `[methods, seeds, problems, rates]`."""

    def by_rate(values: np.ndarray) -> dict[str, dict[str, float]]:
        return {str(rate): interval(values[..., i]) for i, rate in enumerate(RATES)}

    accuracy = dict(zip(METHODS, right, strict=True))
    lost = {name: values - values[..., :1] for name, values in accuracy.items()}

    def spared(aware: str) -> dict[str, Any]:
        return {name: by_rate(lost[aware] - lost[name]) for name in METHODS if name != aware}

    return {
        "accuracy": {name: by_rate(values) for name, values in accuracy.items()},
        "change_from_rate_0": {name: by_rate(values) for name, values in lost.items()},
        "odds_noise_aware_loses_less_by": spared(ODDS[1]),
        "noise_aware_loses_less_by": spared(LIKELIHOOD[1]),
    }


if __name__ == "__main__":
    typer.run(main)
