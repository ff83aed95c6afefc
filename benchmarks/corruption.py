"""What the studies of imperfect rewards share: labelled prefixes, intervals."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import pyro
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from scipy.stats import t as student_t
from torch import Tensor

import pyro_llm
from pyro_llm.distributions import LLM
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
def rollout(problem: dict[str, Any], seed: int) -> list[Prefix]:
    """The prefixes of one solution that the language model writes by itself."""
    lm, reward = models()
    pyro.set_rng_seed(seed)
    found: list[Prefix] = []
    with run_scope():
        state = lm.prompt(problem["problem"])
        for step in range(MAX_STEPS):
            state = state.append(pyro.sample(f"step_{step}", LLM(lm, state, stop="\n", max_tokens=32)))
            (text,) = distinct_texts(state)
            found.append(Prefix(problem["problem"], text, float(reward(state)), problem["solution"].startswith(text)))
            if state.finished.all():
                break
    return found


def labelled_prefixes(pool: Executor, problems: list[dict[str, Any]], count: int, console: Console) -> list[Prefix]:
    """Prefixes of one rollout on each of as many problems as give `count` of them: a rollout has about five.

    Each is there as often as it was written, so that the share of right ones is that of texts of the language model.

    Raises:
        BadParameter: all problems together give fewer.
    """
    needed = problems[: max(20, count // 2)]
    drawn = pool.map(rollout, needed, range(len(needed)))
    prefixes = [one for found in track(drawn, "Rollouts", len(needed), console=console) for one in found]
    if len(prefixes) < count:
        raise typer.BadParameter(
            f"--labels {count}: the rollouts on {len(needed)} of {len(problems)} problems have {len(prefixes)} "
            "prefixes; ask for no more."
        )
    return prefixes


class Disturbance(Protocol):
    """A reward with a fault that can be had without asking it."""

    def disturb(self, log_odds: Tensor, prompt: str, texts: Sequence[str]) -> Tensor:
        """What is said in place of known log-odds, one for each text."""
        ...


def scores(reward: Disturbance, prefixes: list[Prefix]) -> list[float]:
    """The probabilities that a disturbed reward gives to prefixes whose log-odds are known."""
    known = [torch.tensor([prefix.log_odds], dtype=torch.float64) for prefix in prefixes]
    said = [reward.disturb(z, prefix.problem, [prefix.text]) for z, prefix in zip(known, prefixes, strict=True)]
    return torch.cat(said).sigmoid().tolist()


def interval(values: NDArray[np.float64]) -> dict[str, float]:
    """The mean over seeds and problems and a 95 % interval, `values` being `[seeds, problems]`.

    It covers new problems and new seeds alike: the variance is that of two-way clustering (Cameron, Gelbach & Miller,
    Journal of Business & Economic Statistics 29(2), 2011), the sum of those clustered by either less that of the cells,
    and at least the latter; the quantile is Student's, by the smaller count less one. In simulations with 12 seeds and
    20 or 60 problems 95 to 98 percent of such intervals held the truth. For a difference give differences, paired.
    """
    seeds, problems = values.shape
    rest = values - values.mean()
    of_cells = (rest**2).sum()
    by_seed = (rest.sum(1) ** 2).sum() * seeds / max(seeds - 1, 1)
    by_problem = (rest.sum(0) ** 2).sum() * problems / max(problems - 1, 1)
    error = np.sqrt(max(by_seed + by_problem - of_cells, of_cells)) / values.size
    half = float(error * student_t.ppf(0.975, max(min(seeds, problems) - 1, 1)))
    mean = float(values.mean())
    return {"mean": mean, "low": mean - half, "high": mean + half}


def written(found: dict[str, float]) -> str:
    """An interval for a table."""
    return f"{found['mean']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
