"""Two noisy raters of unknown reliability: accuracy of SMC by either, by their mean, and by the integrated likelihood.

Usage: python -m benchmarks.noisy_raters [--problems 250] [--seeds 10] [--labels 200] [--particles 32]

Both raters are the embedded process reward with a fault. The careless one says the contrary of 25 percent of all
prefixes (its log-odds are negated); the lenient one gives log-odds of 6 to 40 percent of all prefixes, whatever they
say. Which prefixes, depends on a hash of the text and the seed. For each seed, 200 labelled prefixes are drawn from
rollouts on the even test problems (label: it is how the right solution begins), and the raters' sensitivity,
specificity and the prevalence are fitted to them. Accuracy is measured on the odd ones; intervals are 95 percent,
paired, over problems and seeds together.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import pyro
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pyro_llm
from benchmarks.corruption import MAX_STEPS, Prefix, interval, labelled_prefixes, models, scores, written
from pyro_llm import zoo
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM
from pyro_llm.raters import RaterPosterior, Ratings, fit_raters
from pyro_llm.rewards import Disturbed, Ensemble, RewardModel

RESULTS = Path(__file__).parent / "results" / "noisy_raters.json"
RATERS, ALONE = ("careless", "lenient"), ("careless", "lenient", "log-odds mean", "mean", "integrated", "uncorrupted")


def raters(reward: RewardModel, seed: int) -> dict[str, Disturbed]:
    """Both raters; `reward` is what they disturb."""
    return {"careless": Disturbed(reward, "flipped", 0.25, seed), "lenient": Disturbed(reward, "corrupted", 0.4, seed)}


def fit(prefixes: list[Prefix], labels: int, seed: int) -> RaterPosterior:
    """What `labels` of the prefixes, drawn at random, say of the raters."""
    chosen = np.random.default_rng(seed).choice(len(prefixes), labels, replace=False)
    drawn = [prefixes[i] for i in chosen]
    table = np.array([scores(rater, drawn) for rater in raters(models()[1], seed).values()]).T
    pyro.set_rng_seed(seed)
    return fit_raters(Ratings.of(table, [int(prefix.right) for prefix in drawn], RATERS), steps=500)


def solve(problem: dict, posterior: RaterPosterior, particles: int, seed: int) -> dict[str, float]:
    """Whether the likeliest answer is right, by each reward."""
    lm, reward = models()
    both = raters(reward, seed)
    rewards = dict(both) | {
        "log-odds mean": Ensemble(list(both.values()), how="mean"),
        "mean": Ensemble(list(both.values()), how="mixture"),
        "integrated": posterior.reward(both),
        "uncorrupted": reward,
    }
    right = {}
    for name in ALONE:
        pyro.set_rng_seed(seed)
        run = SMC(ReasoningSSM(lm, rewards[name], max_steps=MAX_STEPS), num_particles=particles, progress=False)
        first = next(iter(run.run(problem["problem"]).marginal(pyro_llm.answer)))
        right[name] = float(first == problem["answer"])
    return right


def main(
    problems: Annotated[int, typer.Option(min=2, max=250, help="How many of the odd test problems.")] = 250,
    seeds: Annotated[int, typer.Option(min=1, help="Corruptions, sets of labels, and runs.")] = 10,
    labels: Annotated[int, typer.Option(min=2, help="Labelled prefixes.")] = 200,
    particles: Annotated[int, typer.Option(min=1, help="Particles of SMC.")] = 32,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print accuracies and paired differences."""
    started, console = time.perf_counter(), Console(stderr=True)
    every = zoo.problems("abacus")
    labelled, measured = every[0::2], every[1::2][:problems]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        prefixes = labelled_prefixes(pool, labelled, labels, console)
        posteriors = [fit(prefixes, labels, seed) for seed in track(range(seeds), "Raters", console=console)]
        jobs = [(problem, posteriors[seed], particles, seed) for seed in range(seeds) for problem in measured]
        solved = list(track(pool.map(solve, *zip(*jobs, strict=True)), "Solving", len(jobs), console=console))

    accuracy = {name: np.array([row[name] for row in solved]).reshape(seeds, -1) for name in ALONE}
    better = max(RATERS, key=lambda name: accuracy[name].mean())  # in hindsight, to the advantage of one rater alone
    figures = {
        "problems": len(measured),
        "seeds": seeds,
        "labels": labels,
        "particles": particles,
        "seconds": time.perf_counter() - started,
        "raters": [posterior.summary() for posterior in posteriors],
        "accuracy": {name: interval(values) for name, values in accuracy.items()},
        "better_rater": better,
        "integrated_minus": {
            name: interval(accuracy["integrated"] - accuracy[name]) for name in ALONE if name != "integrated"
        },
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")

    title = f"{len(measured)} problems, {seeds} seeds, {particles} particles; the better rater is {better}"
    table = Table("reward", "right answers", "integrated less this", title=title)
    for name in ALONE:
        difference = figures["integrated_minus"].get(name)
        table.add_row(name, written(figures["accuracy"][name]), written(difference) if difference else "")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
