"""What calibration does to an overconfident reward: its calibration error, and the accuracy of SMC with it.

Usage: python -m benchmarks.reward_calibration [--problems 200] [--rollouts 8] [--particles 32] [--seed 0]

The overconfident score is the reward model's log-odds times 3. Rollouts of the language model alone, on half of the
test problems, give pairs of a prefix's score and whether the rollout came to the right answer; calibrations are fitted
on these, and everything is measured on the other half. Intervals are 95 percent, by a bootstrap over problems; those of
accuracies are paired, problem by problem.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyro
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

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


@torch.no_grad()
def rollouts(problem: dict, count: int, seed: int) -> list[tuple[float, int]]:
    """Log-odds of each distinct prefix of some solutions, and whether the solution it is from came to be right."""
    lm, reward = models()
    pyro.set_rng_seed(seed)
    with run_scope(), pyro.plate("rollouts", count):
        state, scored = lm.prompt(problem["problem"]).expand((count,)), []
        for step in range(MAX_STEPS):
            writing = ~state.finished
            if not writing.any():
                break
            state = state.append(pyro.sample(f"step_{step}", LLM(lm, state, stop="\n", max_tokens=32)))
            scored.append((reward(state), writing))
    right = torch.tensor([pyro_llm.answer(text) == problem["answer"] for text in state.texts])
    return [
        pair for scores, rows in scored for pair in zip(scores[rows].tolist(), right[rows].int().tolist(), strict=True)
    ]


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


def measures(pairs: list[list[tuple[float, int]]], calibrations: list[Calibration]) -> dict[str, list[float]]:
    """Measures of calibrated scores of held-out prefixes, each with its interval over problems."""
    of_problems = np.empty(len(pairs), dtype=object)
    for place, rows in enumerate(pairs):
        log_odds = torch.tensor([score for score, _ in rows], dtype=torch.float64)
        for calibration in calibrations:
            log_odds = calibration(log_odds)
        of_problems[place] = np.stack([log_odds.sigmoid().numpy(), [label for _, label in rows]])
    functions = {"expected_calibration_error": expected_calibration_error, "brier_score": brier_score, "auc": auc}
    return {
        name: interval(of_problems, lambda chosen, measure=measure: measure(*np.concatenate(chosen, -1)), repeats=500)
        for name, measure in functions.items()
    }


def main(
    problems: Annotated[int, typer.Option(help="How many of the test problems; every other one is held out.")] = 200,
    rollouts_each: Annotated[int, typer.Option("--rollouts", help="Solutions of each problem.")] = 8,
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
        drawn = pool.map(rollouts, chosen, [rollouts_each] * len(chosen), seeds)
        pairs = list(track(drawn, "Drawing rollouts", total=len(chosen), console=errors))
        fitted_on = np.array([pair for rows in pairs[::2] for pair in rows])
        overconfident = OVERCONFIDENT(torch.tensor(fitted_on[:, 0])).numpy()
        fits = {method: fit_calibration(overconfident, fitted_on[:, 1], method) for method in METHODS}
        rewards = {"reward": None, "overconfident": None} | {
            f"calibrated, {method}": fit for method, fit in fits.items()
        }
        held_out, held_out_seeds = chosen[1::2], seeds[1::2]
        starts = range(0, len(held_out), CHUNK)
        jobs = [(held_out[i : i + CHUNK], rewards, particles, list(held_out_seeds[i : i + CHUNK])) for i in starts]
        solved = pool.map(solve, *zip(*jobs, strict=True))
        by_chunk = list(track(solved, "Solving", total=len(jobs), console=errors))
        right = {name: np.concatenate([chunk[name] for chunk in by_chunk]) for name in rewards}

    figures: dict[str, Any] = {"problems": len(chosen), "rollouts": rollouts_each, "particles": particles, "seed": seed}
    figures["prefixes"] = {"fitted_on": len(fitted_on), "held_out": sum(map(len, pairs[1::2]))}
    table = Table(
        "",
        "calibration error",
        "Brier",
        "AUC",
        "accuracy",
        "difference",
        title="Held-out problems; difference: of the accuracy from the overconfident reward's",
    )
    baseline = right["overconfident"]
    for name, calibration in rewards.items():
        steps = [] if name == "reward" else [OVERCONFIDENT, *([calibration] if calibration else [])]
        accuracy = right[name]
        figures[name] = measures(pairs[1::2], steps) | {
            "accuracy": interval(accuracy),
            "accuracy_minus_overconfident": interval(accuracy - baseline),
            "calibration": None if calibration is None else json.loads(calibration.model_dump_json()),
        }
        table.add_row(name, *(written(value) for key, value in figures[name].items() if key != "calibration"))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(figures, indent=2) + "\n")
    Console().print(table)


def written(value: list[float]) -> str:
    """A figure over its interval."""
    return "{:.3f}\n{:.3f} to {:.3f}".format(*value)


if __name__ == "__main__":
    typer.run(main)
