"""Accuracy on the 500 test problems of `abacus`: one sample, the majority of 32, and SMC with 32 particles.

Usage: python benchmarks/abacus_accuracy.py [--problems 500] [--particles 32] [--seed 0]

The majority vote and SMC spend the same number of generations; SMC also spends calls of the reward model, which the
results count. Standard errors are over problems; differences are paired, problem by problem.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Annotated

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

RESULTS = Path(__file__).parent / "results" / "abacus_accuracy.json"
MAX_STEPS = 12


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """The mean and its standard error."""
    tensor = torch.tensor(values, dtype=torch.float64)
    return tensor.mean().item(), (tensor.std() / math.sqrt(len(values))).item()


def main(
    problems: Annotated[int, typer.Option(help="How many of the test problems.")] = 500,
    particles: Annotated[int, typer.Option(help="Samples of the majority vote, particles of SMC.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the first problem; each problem has its own.")] = 0,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print the three accuracies."""
    lm, reward = pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")
    reasoning = ReasoningSSM(lm, reward, max_steps=MAX_STEPS)

    def unguided(problem: str):
        state = lm.prompt(problem)
        for t in range(MAX_STEPS):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=32)))
            if state.finished.all():
                break
        return state

    one, majority, smc = [], [], []
    spent = {"majority": Counter(), "smc": Counter()}
    for i, problem in enumerate(track(zoo.problems("abacus")[:problems], "Solving", console=Console(stderr=True))):
        pyro.set_rng_seed(seed + i)
        samples = Importance(unguided, num_particles=particles, progress=False).run(problem["problem"])
        answers = [pyro_llm.answer(text) for text in samples.texts.flat]
        one.append(sum(answer == problem["answer"] for answer in answers) / particles)
        votes = Counter(answer for answer in answers if answer is not None)
        majority.append(float(bool(votes) and votes.most_common(1)[0][0] == problem["answer"]))

        posterior = SMC(reasoning, num_particles=particles, progress=False).run(problem["problem"])
        smc.append(float(next(iter(posterior.marginal(pyro_llm.answer))) == problem["answer"]))
        for name, cost in (("majority", samples.cost), ("smc", posterior.cost)):
            spent[name].update(vars(cost))

    figures = {
        "problems": len(one),
        "particles": particles,
        "seed": seed,
        "one_sample": mean_and_error(one),
        "majority": mean_and_error(majority),
        "smc": mean_and_error(smc),
        "smc_minus_majority": mean_and_error([a - b for a, b in zip(smc, majority, strict=True)]),
        "smc_minus_one_sample": mean_and_error([a - b for a, b in zip(smc, one, strict=True)]),
        "cost": {name: dict(cost) for name, cost in spent.items()},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")

    table = Table("", "right answers", "standard error", title=f"{len(one)} problems, {particles} particles")
    for name in ("one_sample", "majority", "smc", "smc_minus_majority", "smc_minus_one_sample"):
        value, error = figures[name]
        table.add_row(name.replace("_", " "), f"{value:.3f}", f"{error:.3f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
