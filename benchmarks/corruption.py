"""What the studies of imperfect rewards share: labelled prefixes, intervals."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.rewards import Disturbed
from pyro_llm.rewards.reward_model import distinct_texts
from pyro_llm.run_scope import run_scope

MAX_STEPS = 12


@cache
def models():
    """The embedded models, loaded once in each process."""
    torch.set_num_threads(1)
    return pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")


@dataclass(frozen=True)
class Prefix:
    """A prefix of a rollout, the reward's log-odds, and whether it is how the right solution begins."""

    problem: str
    text: str
    log_odds: float
    right: bool


@torch.no_grad()
def rollouts(problem: dict[str, Any], count: int, seed: int) -> list[Prefix]:
    """The distinct prefixes of some solutions that the language model writes by itself."""
    lm, reward = models()
    pyro.set_rng_seed(seed)
    found: dict[str, Prefix] = {}
    with run_scope(), pyro.plate("rollouts", count):
        state = lm.prompt(problem["problem"]).expand((count,))
        for step in range(MAX_STEPS):
            state = state.append(pyro.sample(f"step_{step}", LLM(lm, state, stop="\n", max_tokens=32)))
            for text, log_odds in zip(distinct_texts(state), reward(state).tolist(), strict=True):
                right = problem["solution"].startswith(text)
                found[text] = Prefix(problem["problem"], text, log_odds, right)
            if state.finished.all():
                break
    return list(found.values())


def labelled_prefixes(pool: Executor, problems: list[dict[str, Any]], count: int, console: Console) -> list[Prefix]:
    """Prefixes of rollouts on as many problems as give `count` of them: a rollout has about five."""
    needed = problems[: max(20, count // 2)]
    drawn = pool.map(rollouts, needed, [2] * len(needed), range(len(needed)))
    return [one for found in track(drawn, "Rollouts", len(needed), console=console) for one in found]


def scores(reward: Disturbed, prefixes: list[Prefix]) -> list[float]:
    """The probabilities that a disturbed reward gives to prefixes whose undisturbed log-odds are known."""
    log_odds = [torch.tensor([prefix.log_odds], dtype=torch.float64) for prefix in prefixes]
    found = [reward.disturb(z, one.problem, [one.text]) for z, one in zip(log_odds, prefixes, strict=True)]
    return torch.cat(found).sigmoid().tolist()


def interval(values: NDArray[np.float64], replicates: int = 4000, seed: int = 0) -> dict[str, float]:
    """The mean over seeds and problems and a 95 % interval, `values` being `[seeds, problems]`.

    Seeds and problems are both drawn anew (the pigeonhole bootstrap of Owen, Annals of Applied Statistics 1(2), 2007),
    which is conservative: it covers new problems and new corruptions alike. For a difference give differences, paired.
    """
    generator = np.random.default_rng(seed)
    seeds, problems = values.shape
    by_seed = generator.multinomial(seeds, np.full(seeds, 1 / seeds), replicates) / seeds
    by_problem = generator.multinomial(problems, np.full(problems, 1 / problems), replicates) / problems
    means = np.einsum("bs,sp,bp->b", by_seed, values, by_problem, optimize=True)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}


def written(found: dict[str, float]) -> str:
    """An interval for a table."""
    return f"{found['mean']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
