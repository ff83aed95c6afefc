"""Two noisy raters of unknown reliability: accuracy of SMC by either, by their mean, and by the integrated likelihood.

Usage: python -m benchmarks.noisy_raters [--setting complementary] [--problems 60] [--seeds 12] [--labels 200]

Both raters are the embedded process reward with a fault that depends on a hash of the text and the seed. Settings:

- complementary: one seldom rejects what is right (it turns round 10 percent of the reward's verdicts "right" and 40
  percent of its verdicts "wrong"), the other seldom accepts what is wrong (35 and 10 percent);
- alike: each turns round a quarter of all verdicts;
- lenient: one turns round a quarter of all verdicts, the other gives log-odds of 6 to 40 percent of all prefixes.

For each seed 200 labelled prefixes are drawn from rollouts on the even test problems (label: it is how the right
solution begins), and the raters' sensitivity, specificity and the prevalence are fitted to them; nothing else is known
of the raters. Accuracy is measured on the odd ones; intervals are 95 percent, paired, over problems and seeds together.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import time
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
from benchmarks.unreliable import Unreliable
from pyro_llm import zoo
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM
from pyro_llm.raters import RaterPosterior, Ratings, fit_raters
from pyro_llm.rewards import Disturbed, Ensemble, RewardModel

RESULTS = Path(__file__).parent / "results" / "noisy_raters.json"
SETTINGS = ("complementary", "alike", "lenient")
RATERS = ("first", "second")
REWARDS = (*RATERS, "log-odds mean", "mean", "first, integrated", "second, integrated", "integrated")
CHUNK = 10
"""Problems that go through the models together."""


def raters(setting: str, reward: RewardModel, seed: int) -> dict[str, Any]:
    """Both raters; `reward` is what they say or turn round."""
    if setting == "lenient":
        return {"first": Disturbed(reward, "flipped", 0.25, seed), "second": Disturbed(reward, "corrupted", 0.4, seed)}
    errors = {"complementary": ((0.9, 0.6), (0.65, 0.9)), "alike": ((0.75, 0.75), (0.75, 0.75))}[setting]
    return {name: Unreliable(reward, *one, seed, name) for name, one in zip(RATERS, errors, strict=True)}


def fit(setting: str, prefixes: list[Prefix], labels: int, seed: int) -> RaterPosterior:
    """What `labels` of the prefixes, drawn at random, say of the raters."""
    chosen = np.random.default_rng(seed).choice(len(prefixes), labels, replace=False)
    drawn = [prefixes[i] for i in chosen]
    table = np.array([scores(rater, drawn) for rater in raters(setting, models()[1], seed).values()]).T
    pyro.set_rng_seed(seed)
    return fit_raters(Ratings.of(table, [int(prefix.right) for prefix in drawn], RATERS), steps=500)


def rewards(setting: str, posterior: RaterPosterior, seed: int) -> dict[str, RewardModel]:
    """What is compared, by the names in `REWARDS`."""
    both = raters(setting, models()[1], seed)
    return both | {
        "log-odds mean": Ensemble(list(both.values()), how="mean"),
        "mean": Ensemble(list(both.values()), how="mixture"),
        "first, integrated": posterior.reward({"first": both["first"]}),
        "second, integrated": posterior.reward({"second": both["second"]}),
        "integrated": posterior.reward(both),
    }


def solve(setting: str, problems: list[dict], posterior: RaterPosterior, particles: int, seed: int) -> np.ndarray:
    """Whether the likeliest answer is right. `[rewards, problems]`."""
    right = []
    for reward in rewards(setting, posterior, seed).values():
        smc = SMC(ReasoningSSM(models()[0], reward, max_steps=MAX_STEPS), num_particles=particles, progress=False)
        texts = [problem["problem"] for problem in problems]
        runs = smc.run_each(texts, concurrent=CHUNK, seeds=[seed] * len(texts), progress=False)
        first = [next(iter(run.marginal(pyro_llm.answer))) for run in runs]
        right.append([float(x == problem["answer"]) for x, problem in zip(first, problems, strict=True)])
    return np.array(right)


def main(
    setting: Annotated[str, typer.Option(help=f"One of {', '.join(SETTINGS)}, or all.")] = "all",
    problems: Annotated[int, typer.Option(min=2, max=250, help="How many of the odd test problems.")] = 60,
    seeds: Annotated[int, typer.Option(min=2, help="Faults, sets of labels, and runs.")] = 12,
    labels: Annotated[int, typer.Option(min=2, help="Labelled prefixes.")] = 200,
    particles: Annotated[int, typer.Option(min=1, help="Particles of SMC.")] = 32,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Where the figures are written; other settings in it are kept.")] = RESULTS,
) -> None:
    """Measure and print accuracies and paired differences."""
    console, every = Console(stderr=True), zoo.problems("abacus")
    labelled, measured = every[0::2], every[1::2][:problems]
    chunks = [measured[i : i + CHUNK] for i in range(0, len(measured), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        prefixes = labelled_prefixes(pool, labelled, labels, console)
        for one in SETTINGS if setting == "all" else (setting,):
            started = time.perf_counter()
            posteriors = [fit(one, prefixes, labels, seed) for seed in track(range(seeds), "Raters", console=console)]
            jobs = [(one, chunk, posteriors[seed], particles, seed) for seed in range(seeds) for chunk in chunks]
            solved = list(track(pool.map(solve, *zip(*jobs, strict=True)), one, len(jobs), console=console))
            right = np.concatenate(solved, axis=1).reshape(len(REWARDS), seeds, len(measured))
            size = {"problems": len(measured), "seeds": seeds, "labels": labels, "particles": particles}
            figures = size | {"seconds": time.perf_counter() - started} | summary(right, posteriors)
            known = json.loads(out.read_text()) if out.exists() else {}
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(known | {one: figures}, indent=2) + "\n")
            show(one, figures)


def summary(right: np.ndarray, posteriors: list[RaterPosterior]) -> dict[str, Any]:
    """Figures of `[rewards, seeds, problems]`."""
    accuracy = dict(zip(REWARDS, right, strict=True))
    return {
        "raters": [posterior.summary() for posterior in posteriors],
        "accuracy": {name: interval(values) for name, values in accuracy.items()},
        # In hindsight, to the advantage of one rater alone.
        "better_rater": max(RATERS, key=lambda name: accuracy[name].mean()),
        "integrated_minus": {name: interval(accuracy["integrated"] - accuracy[name]) for name in REWARDS[:-1]},
    }


def show(setting: str, figures: dict[str, Any]) -> None:
    """Print a table."""
    sizes = f"{figures['problems']} problems, {figures['seeds']} seeds, {figures['particles']} particles"
    title = f"{setting}: {sizes}; the better rater is the {figures['better_rater']}"
    table = Table("reward", "right answers", "integrated less this", title=title)
    for name in REWARDS:
        difference = figures["integrated_minus"].get(name)
        table.add_row(name, written(figures["accuracy"][name]), written(difference) if difference else "")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
