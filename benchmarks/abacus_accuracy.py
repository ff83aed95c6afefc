"""Accuracy on the 500 test problems of `abacus`: one sample, the majority of 32, and SMC with 32 particles.

Usage: python benchmarks/abacus_accuracy.py [--problems 500] [--particles 32] [--seed 0]

The majority vote and SMC spend the same number of generations; SMC also spends calls of the reward model, which the
results count. A sample without an answer does not vote. Standard errors are over problems; differences are paired,
problem by problem.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import pyro
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

import pyro_llm
from pyro_llm import zoo
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC, Importance
from pyro_llm.models import ReasoningSSM
from pyro_llm.run_scope import Cost

RESULTS = Path(__file__).parent / "results" / "abacus_accuracy.json"
MAX_STEPS = 12


class Row(NamedTuple):
    """One problem: the share of right samples, whether the majority and SMC are right, and what both cost."""

    one_sample: float
    majority: float
    smc: float
    majority_cost: Cost
    smc_cost: Cost


@cache
def models():
    """The embedded models, loaded once in each process."""
    torch.set_num_threads(1)
    return pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")


def unguided(problem: str):
    """The language model alone: the program of `ReasoningSSM` without its rewards."""
    lm, _ = models()
    state = lm.prompt(problem)
    for t in range(MAX_STEPS):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
        if state.finished.all():
            break
    return state


def solve(problem: dict, particles: int, seed: int) -> Row:
    """Solve one problem both ways."""
    pyro.set_rng_seed(seed)
    samples = Importance(unguided, num_particles=particles, progress=False).run(problem["problem"])
    answers = [pyro_llm.answer(text) for text in samples.texts.flat]
    votes = Counter(answer for answer in answers if answer is not None)
    posterior = SMC(ReasoningSSM(*models(), max_steps=MAX_STEPS), num_particles=particles, progress=False).run(
        problem["problem"]
    )
    first = next(iter(posterior.marginal(pyro_llm.answer)))
    right = problem["answer"]
    return Row(
        one_sample=sum(answer == right for answer in answers) / particles,
        majority=float(bool(votes) and votes.most_common(1)[0][0] == right),
        smc=float(first == right),
        majority_cost=samples.cost,
        smc_cost=posterior.cost,
    )


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), (tensor.std() / math.sqrt(len(values))).item()


def total(costs: list[Cost]) -> dict[str, float]:
    """The sum of what was spent."""
    return {name: sum(getattr(cost, name) for cost in costs) for name in vars(costs[0])}


def main(
    problems: Annotated[int, typer.Option(help="How many of the test problems.")] = 500,
    particles: Annotated[int, typer.Option(help="Samples of the majority vote, particles of SMC.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the first problem; each problem has its own.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print the three accuracies."""
    chosen = zoo.problems("abacus")[:problems]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=os.cpu_count(), mp_context=context) as pool:
        solved = pool.map(solve, chosen, [particles] * len(chosen), range(seed, seed + len(chosen)))
        rows = list(track(solved, "Solving", total=len(chosen), console=Console(stderr=True)))

    figures = {
        "problems": len(rows),
        "particles": particles,
        "seed": seed,
        "one_sample": mean_and_error([row.one_sample for row in rows]),
        "majority": mean_and_error([row.majority for row in rows]),
        "smc": mean_and_error([row.smc for row in rows]),
        "smc_minus_majority": mean_and_error([row.smc - row.majority for row in rows]),
        "smc_minus_one_sample": mean_and_error([row.smc - row.one_sample for row in rows]),
        "majority_cost": total([row.majority_cost for row in rows]),
        "smc_cost": total([row.smc_cost for row in rows]),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")

    table = Table("", "right answers", "standard error", title=f"{len(rows)} problems, {particles} particles")
    for name in ("one_sample", "majority", "smc", "smc_minus_majority", "smc_minus_one_sample"):
        value, error = figures[name]
        table.add_row(name.replace("_", " "), f"{value:.3f}", f"{error:.3f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
