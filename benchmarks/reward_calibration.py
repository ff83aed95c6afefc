"""What calibration does to an overconfident reward: its calibration error, and the accuracy with it.

Usage: python -m benchmarks.reward_calibration [--problems 160] [--rollouts 32] [--smc] [--particles 32] [--seed 0]

The overconfident score is the reward model's log-odds times 3. Rollouts of the language model alone, on half of the
test problems, give pairs of a prefix's score and whether the rollout came to the right answer; calibrations are fitted
on these, and everything is measured on the other half. The accuracy is that of `Importance` with the rollouts as its
particles: the answer of highest weight, the product of a rollout's rewards; with --smc also that of `SMC`, which draws
its own. Intervals are 95 percent, by a bootstrap over problems; those of accuracies are paired, problem by problem.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pyro
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.nn.functional import logsigmoid

import pyro_llm
from benchmarks.corruption import MAX_STEPS, models
from pyro_llm import zoo
from pyro_llm.diagnostics import auc, brier_score, expected_calibration_error
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import Calibrated, Calibration, Reward, TemperatureScaling, fit_calibration
from pyro_llm.run_scope import run_scope

RESULTS = Path(__file__).parent / "results" / "reward_calibration.json"
OVERCONFIDENT, CHUNK = TemperatureScaling(temperature=1 / 3), 10
METHODS = ("platt", "temperature", "beta", "isotonic")


class Rollout(NamedTuple):
    """A solution: the log-odds of its prefixes, step by step, and its answer."""

    log_odds: list[float]
    answer: str | None
    right: bool


@torch.no_grad()
def rollouts(problem: dict, count: int, seed: int) -> list[Rollout]:
    """Solutions that the language model writes by itself."""
    lm, reward = models()
    pyro.set_rng_seed(seed)
    with run_scope(), pyro.plate("rollouts", count):
        state, scored = lm.prompt(problem["problem"]).expand((count,)), [[] for _ in range(count)]
        for step in range(MAX_STEPS):
            writing = ~state.finished
            if not writing.any():
                break
            state = state.append(pyro.sample(f"step_{step}", LLM(lm, state, stop="\n", max_tokens=32)))
            log_odds = reward(state).tolist()
            for row in writing.nonzero().flatten().tolist():
                scored[row].append(log_odds[row])
    answers = [pyro_llm.answer(text) for text in state.texts]
    return [Rollout(scores, said, said == problem["answer"]) for scores, said in zip(scored, answers, strict=True)]


def calibrated(log_odds: list[float], calibrations: list[Calibration]) -> torch.Tensor:
    """Log-odds after one calibration and another."""
    found = torch.tensor(log_odds, dtype=torch.float64)
    for calibration in calibrations:
        found = calibration(found)
    return found


def weighed(of_problem: list[Rollout], calibrations: list[Calibration]) -> float:
    """Whether the answer of highest weight is right, a rollout's weight being the product of its rewards."""
    log_weights = torch.stack([logsigmoid(calibrated(one.log_odds, calibrations)).sum() for one in of_problem])
    shares: dict[str | None, float] = defaultdict(float)
    for one, share in zip(of_problem, log_weights.softmax(0).tolist(), strict=True):
        shares[one.answer] += share
    first = max(shares, key=shares.__getitem__)
    return float(any(one.right for one in of_problem if one.answer == first))


def solve(
    problems: list[dict], rewards: dict[str, Calibration | None], particles: int, seeds: list[int]
) -> dict[str, list[float]]:
    """Whether the likeliest answer to each problem is right, by each reward."""
    lm, reward = models()
    right = {}
    for name, calibration in rewards.items():
        judge: Reward = reward
        if name != "reward":
            judge = judge.calibrated(OVERCONFIDENT)
        if calibration is not None:
            judge = Calibrated(judge, calibration)
        smc = SMC(ReasoningSSM(lm, judge, max_steps=MAX_STEPS), num_particles=particles, progress=False)
        texts = [problem["problem"] for problem in problems]
        runs = smc.run_each(texts, concurrent=CHUNK, seeds=seeds, progress=False)
        right[name] = [
            float(run.decision(pyro_llm.answer) == problem["answer"])
            for run, problem in zip(runs, problems, strict=True)
        ]
    return right


def interval(values: np.ndarray, statistic: Any = np.mean, repeats: int = 2000) -> list[float]:
    """A statistic of per-problem values with its 95 percent bootstrap interval over problems."""
    rng = np.random.default_rng(0)
    draws = [statistic(values[rng.integers(len(values), size=len(values))]) for _ in range(repeats)]
    return [float(statistic(values)), *np.quantile(draws, (0.025, 0.975)).tolist()]


def measures(drawn: list[list[Rollout]], calibrations: list[Calibration]) -> dict[str, list[float]]:
    """Measures of calibrated scores of held-out prefixes, each with its interval over problems."""
    of_problems = np.empty(len(drawn), dtype=object)
    for place, solutions in enumerate(drawn):
        log_odds, labels = pairs([solutions])
        of_problems[place] = np.stack([calibrated(log_odds, calibrations).sigmoid().numpy(), labels])
    functions = {"expected_calibration_error": expected_calibration_error, "brier_score": brier_score, "auc": auc}
    return {
        name: interval(of_problems, lambda chosen, measure=measure: measure(*np.concatenate(chosen, -1)), repeats=200)
        for name, measure in functions.items()
    }


def pairs(drawn: list[list[Rollout]]) -> tuple[list[float], list[int]]:
    """Log-odds of all prefixes, and whether the rollout came to be right."""
    rows = [(z, int(one.right)) for solutions in drawn for one in solutions for z in one.log_odds]
    return [z for z, _ in rows], [label for _, label in rows]


def main(
    problems: Annotated[int, typer.Option(help="How many of the test problems; every other one is held out.")] = 160,
    rollouts_each: Annotated[int, typer.Option("--rollouts", help="Solutions of each problem.")] = 32,
    smc: Annotated[bool, typer.Option("--smc", help="Measure SMC too.")] = False,
    particles: Annotated[int, typer.Option(help="Of SMC.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the first problem; each problem has its own.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Where the figures are written.")] = RESULTS,
) -> None:
    """Measure and print the calibration error and the accuracy of each reward."""
    chosen = zoo.problems("abacus")[:problems]
    errors = Console(stderr=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context) as pool:
        seeds = range(seed, seed + len(chosen))
        found = pool.map(rollouts, chosen, [rollouts_each] * len(chosen), seeds)
        drawn = list(track(found, "Drawing rollouts", total=len(chosen), console=errors))
        log_odds, labels = pairs(drawn[::2])
        overconfident = calibrated(log_odds, [OVERCONFIDENT]).numpy()
        fits = {method: fit_calibration(overconfident, labels, method) for method in METHODS}
        rewards: dict[str, Calibration | None] = {"reward": None, "overconfident": None}
        rewards |= {f"calibrated, {method}": fit for method, fit in fits.items()}
        by_smc = _by_smc(pool, chosen[1::2], list(seeds[1::2]), rewards, particles, errors) if smc else None

    held_out = drawn[1::2]
    figures: dict[str, Any] = {"problems": len(chosen), "rollouts": rollouts_each, "particles": particles, "seed": seed}
    figures["prefixes"] = {"fitted_on": len(labels), "held_out": len(pairs(held_out)[1])}
    title = "Held-out problems; difference: of the accuracy from the overconfident reward's"
    columns = ["calibration error", "Brier", "AUC", "accuracy", "difference", *["by SMC", "difference"] * smc]
    table = Table("", *columns, title=title)
    chains = {
        name: [] if name == "reward" else [OVERCONFIDENT, *([calibration] if calibration else [])]
        for name, calibration in rewards.items()
    }
    right = {name: np.array([weighed(one, chain) for one in held_out]) for name, chain in chains.items()}
    for name, chain in chains.items():
        figures[name] = measures(held_out, chain)
        for kind, of_rewards in (("", right), ("smc_", by_smc)):
            if of_rewards is not None:
                figures[name][f"{kind}accuracy"] = interval(of_rewards[name])
                change = of_rewards[name] - of_rewards["overconfident"]
                figures[name][f"{kind}accuracy_minus_overconfident"] = interval(change)
        table.add_row(name, *(written(value) for value in figures[name].values()))
        calibration = rewards[name]
        figures[name]["calibration"] = None if calibration is None else json.loads(calibration.model_dump_json())
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    Console().print(table)


def _by_smc(
    pool: ProcessPoolExecutor,
    problems: list[dict],
    seeds: list[int],
    rewards: dict[str, Calibration | None],
    particles: int,
    console: Console,
) -> dict[str, np.ndarray]:
    starts = range(0, len(problems), CHUNK)
    jobs = [(problems[i : i + CHUNK], rewards, particles, seeds[i : i + CHUNK]) for i in starts]
    solved = list(track(pool.map(solve, *zip(*jobs, strict=True)), "Solving", total=len(jobs), console=console))
    return {name: np.concatenate([chunk[name] for chunk in solved]) for name in rewards}


def written(value: list[float]) -> str:
    """A figure over its interval."""
    return "{:.3f}\n{:.3f} to {:.3f}".format(*value)


if __name__ == "__main__":
    typer.run(main)
