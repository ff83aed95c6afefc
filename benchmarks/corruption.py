"""What the studies of imperfect rewards share: corrupted rewards, labelled prefixes, intervals."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.lm import TextState
from pyro_llm.rewards import Reward, RewardModel
from pyro_llm.rewards.reward_model import distinct_texts
from pyro_llm.run_scope import run_scope

MAX_STEPS = 12


@cache
def models():
    """The embedded models, loaded once in each process."""
    torch.set_num_threads(1)
    return pyro_llm.load_lm("abacus"), pyro_llm.load_reward("abacus")


@dataclass(frozen=True)
class Corrupted(Reward):
    """A reward that is wrong about a share of all prefixes, chosen at random and for good by a hash of the text.

    Args:
        reward: the reward.
        kind: `"flip"`, the log-odds are negated; `"high"`, they are `log_odds`, whatever the text.
        rate: the share of prefixes.
        seed: which prefixes.
        log_odds: of `"high"`.
    """

    reward: RewardModel
    kind: Literal["flip", "high"]
    rate: float
    seed: int
    log_odds: float = 6.0

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds, corrupted."""
        found = self.reward(state).double()
        chosen = torch.tensor([self.chosen(state.prompt, text) for text in distinct_texts(state)])
        return self.corrupt(found, chosen.reshape(found.shape))

    def chosen(self, problem: str, text: str) -> bool:
        """Whether the reward is wrong about a text."""
        key = f"{self.kind}|{self.seed}|{problem}|{text}".encode()
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big") < self.rate * 2**64

    def corrupt(self, log_odds: Tensor, chosen: Tensor) -> Tensor:
        """The log-odds that are said in place of `log_odds`."""
        wrong = -log_odds if self.kind == "flip" else torch.full_like(log_odds, self.log_odds)
        return torch.where(chosen, wrong, log_odds)


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


def scores(reward: Corrupted, prefixes: list[Prefix]) -> list[float]:
    """The probabilities that a corrupted reward gives to prefixes whose log-odds are known."""
    log_odds = torch.tensor([prefix.log_odds for prefix in prefixes], dtype=torch.float64)
    chosen = torch.tensor([reward.chosen(prefix.problem, prefix.text) for prefix in prefixes])
    return reward.corrupt(log_odds, chosen).sigmoid().tolist()


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
