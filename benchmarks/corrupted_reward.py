"""One corrupted reward: what particle filtering, best-of-N and beam search lose as more scores are wrong.

Usage: python -m benchmarks.corrupted_reward [--problems 250] [--seeds 5] [--budget 32] [--labels 200]

The embedded process reward gives log-odds of 6 to a share of all prefixes, 0 to 20 percent, chosen by a hash of the
text and the seed. Five ways of using it, of `budget` generations each:

- particle filter: `SMC` by the score as it is;
- noise-aware: by `with_error(0.1, 0.05)`, assumed at all rates alike;
- integrated: by the reward's sensitivity and specificity, fitted to 200 labelled prefixes at that rate;
- best of N: of N solutions of the language model the one of highest score;
- beam search: N / 4 beams, 4 continuations each, the highest scores are kept; the highest at the end.

Losses are accuracies less those of the same method at rate 0, paired; 95 percent intervals over problems and seeds.
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
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pyro_llm
from benchmarks.corruption import MAX_STEPS, Prefix, interval, labelled_prefixes, models, scores, written
from pyro_llm import zoo
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC
from pyro_llm.lm import TextState
from pyro_llm.models import ReasoningSSM
from pyro_llm.raters import RaterPosterior, Ratings, fit_raters
from pyro_llm.rewards import Disturbed, RewardModel
from pyro_llm.run_scope import run_scope

RESULTS = Path(__file__).parent / "results" / "corrupted_reward.json"
RATES = (0.0, 0.05, 0.1, 0.2)
METHODS = ("particle filter", "noise-aware", "integrated", "best of N", "beam search")
EXPANSION = 4


def fit(prefixes: list[Prefix], labels: int, rate: float, seed: int) -> RaterPosterior:
    """What labelled prefixes say of the reward."""
    chosen = np.random.default_rng(seed).choice(len(prefixes), labels, replace=False)
    drawn = [prefixes[i] for i in chosen]
    table = np.array([scores(Disturbed(models()[1], "corrupted", rate, seed), drawn)]).T
    pyro.set_rng_seed(seed)
    return fit_raters(Ratings.of(table, [int(prefix.right) for prefix in drawn], ["reward"]), steps=500)


def particle_filter(problem: str, reward: RewardModel, budget: int) -> str | None:
    """The likeliest answer."""
    model = ReasoningSSM(models()[0], reward, max_steps=MAX_STEPS)
    return next(iter(SMC(model, num_particles=budget, progress=False).run(problem).marginal(pyro_llm.answer)))


@torch.no_grad()
def beam_search(problem: str, reward: RewardModel, budget: int, expansion: int = EXPANSION) -> str | None:
    """The answer of the text of highest score after beam search; with an expansion of 1, of best-of-N."""
    lm, beams = models()[0], budget // expansion
    with run_scope(), pyro.plate("texts", budget):
        state = lm.prompt(problem).expand((budget,))
        for step in range(MAX_STEPS):
            state = state.append(pyro.sample(f"step_{step}", LLM(lm, state, stop="\n", max_tokens=32)))
            if state.finished.all():
                break
            if expansion > 1:
                kept = reward(state).topk(beams).indices.repeat_interleave(expansion)
                state = gather(state, kept)
        return pyro_llm.answer(state.texts[int(reward(state).argmax())])


def gather(state: TextState, rows: torch.Tensor) -> TextState:
    """The state of these rows."""
    return state.map_tensors(lambda tensor, event_dim: tensor[rows])


def solve(problem: dict, posteriors: dict[float, RaterPosterior], budget: int, seed: int) -> dict[str, list[float]]:
    """Whether each method is right, by rate."""
    text, right = problem["problem"], {name: [] for name in METHODS}
    for rate in RATES:
        reward = Disturbed(models()[1], "corrupted", rate, seed)
        ways = {
            "particle filter": lambda reward=reward: particle_filter(text, reward, budget),
            "noise-aware": lambda reward=reward: particle_filter(text, reward.with_error(0.1, 0.05), budget),
            "integrated": lambda reward=reward, rate=rate: particle_filter(
                text, posteriors[rate].reward({"reward": reward}), budget
            ),
            "best of N": lambda reward=reward: beam_search(text, reward, budget, expansion=1),
            "beam search": lambda reward=reward: beam_search(text, reward, budget),
        }
        for name, answered in ways.items():
            pyro.set_rng_seed(seed)
            right[name].append(float(answered() == problem["answer"]))
    return right


def main(
    problems: Annotated[int, typer.Option(min=2, max=250, help="How many of the odd test problems.")] = 250,
    seeds: Annotated[int, typer.Option(min=1, help="Corruptions, sets of labels, and runs.")] = 5,
    labels: Annotated[int, typer.Option(min=2, help="Labelled prefixes.")] = 200,
    budget: Annotated[int, typer.Option(min=EXPANSION, help="Generations of each method.")] = 32,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print accuracies and losses by rate."""
    started, console = time.perf_counter(), Console(stderr=True)
    every = zoo.problems("abacus")
    labelled, measured = every[0::2], every[1::2][:problems]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        prefixes = labelled_prefixes(pool, labelled, labels, console)
        posteriors = [
            {rate: fit(prefixes, labels, rate, seed) for rate in RATES}
            for seed in track(range(seeds), "Raters", console=console)
        ]
        jobs = [(problem, posteriors[seed], budget, seed) for seed in range(seeds) for problem in measured]
        solved = list(track(pool.map(solve, *zip(*jobs, strict=True)), "Solving", len(jobs), console=console))

    accuracy = {  # [seeds, problems, rates]
        name: np.array([row[name] for row in solved]).reshape(seeds, len(measured), len(RATES)) for name in METHODS
    }
    lost = {name: values - values[..., :1] for name, values in accuracy.items()}
    by_rate = {
        name: {str(rate): interval(values[..., i]) for i, rate in enumerate(RATES)} for name, values in accuracy.items()
    }
    losses = {
        name: {str(rate): interval(values[..., i]) for i, rate in enumerate(RATES)} for name, values in lost.items()
    }
    saved = {  # by how much less the noise-aware likelihood loses
        name: {str(rate): interval((lost["noise-aware"] - lost[name])[..., i]) for i, rate in enumerate(RATES)}
        for name in METHODS
        if name != "noise-aware"
    }
    figures = {
        "problems": len(measured),
        "seeds": seeds,
        "labels": labels,
        "budget": budget,
        "seconds": time.perf_counter() - started,
        "accuracy": by_rate,
        "change_from_rate_0": losses,
        "noise_aware_loses_less_by": saved,
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    for title, shown in (("right answers", by_rate), ("change from rate 0", losses), ("loss spared", saved)):
        table = Table(title, *(f"{rate:.0%}" for rate in RATES))
        for name, cells in shown.items():
            table.add_row(name, *(written(cell) for cell in cells.values()))
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)
