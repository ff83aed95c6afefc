"""Several rewards as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pyro_llm.errors import OptionError, RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.composition.derived import check_reward
from pyro_llm.rewards.log_odds import from_log_surprisal, log_surprisal, of_mixture
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.reward_model import RewardModel, ask

EnsembleRule = Literal["product", "mean", "min", "mixture"]


@dataclass(frozen=True, init=False, repr=False)
class Ensemble(Reward):
    r"""One reward from several, $r_1, \dots, r_K$ with log-odds $z_1, \dots, z_K$.

    - `"product"`: $\prod_k r_k^{w_k}$, all of them accept, each judging for itself; $w_k = 1$ unless given. The same
      factor as an `accept` for each.
    - `"mean"`: log-odds $\sum_k w_k z_k$: the mean of the scores (mean optimisation in Coste et al., "Reward Model
      Ensembles Help Mitigate Overoptimization", ICLR 2024), known as the logarithmic opinion pool (Genest & Zidek,
      Statistical Science 1(1), 1986). Weights are scaled to sum to 1, and equal unless given.
    - `"min"`: $\min_k r_k$, the most sceptical one (worst-case optimisation there). It takes no weights.
    - `"mixture"`: $\sum_k w_k r_k$, one of them judges, with probability $w_k$: the linear opinion pool. Weights are
      scaled to sum to 1, and equal unless given.

    Args:
        rewards: at least one `RewardModel`.
        weights: positive numbers, one for each reward.
        how: the rule.

    Raises:
        OptionError: there is no reward or no such rule; weights that are not positive, not one for each, or not used.
        RewardError: when called: of `"mean"`, some reward is sure of acceptance and another of rejection.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> rewards = [FunctionReward(lambda text: 0.9), FunctionReward(lambda text: 0.5)]
        >>> for how in ("product", "mean", "min", "mixture"):
        ...     print(how, round(Ensemble(rewards, how=how)(state).sigmoid().item(), 3))
        product 0.45
        mean 0.75
        min 0.5
        mixture 0.7
    """

    rewards: tuple[RewardModel, ...]
    weights: tuple[float, ...] | None
    how: EnsembleRule

    def __init__(
        self, rewards: Sequence[RewardModel], weights: Sequence[float] | None = None, how: EnsembleRule = "product"
    ) -> None:
        given = None if weights is None else tuple(float(weight) for weight in weights)
        for name, value in (("rewards", tuple(rewards)), ("weights", given), ("how", how)):
            object.__setattr__(self, name, value)
        self._check()

    def _check(self) -> None:
        if not self.rewards:
            raise OptionError("An ensemble needs at least one reward.")
        for reward in self.rewards:
            check_reward(reward)
        if self.how not in get_args(EnsembleRule):
            known = ", ".join(map(repr, get_args(EnsembleRule)))
            raise OptionError(f"There is no rule how={self.how!r} for an ensemble; choose one of {known}.")
        if self.weights is None:
            return
        if self.how == "min":
            raise OptionError('how="min" takes the least of all rewards, and no weights.')
        if len(self.weights) != len(self.rewards):
            raise OptionError(
                f"There are {len(self.weights)} weights for {len(self.rewards)} rewards; give one for each."
            )
        if not all(weight > 0 and math.isfinite(weight) for weight in self.weights):
            raise OptionError(
                f"weights={list(self.weights)}: give positive, finite numbers; leave out what is to have 0."
            )

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text of `state` is accepted. Shape `state.batch_shape`, float64."""
        scores = [ask(reward, state).double() for reward in self.rewards]
        log_odds = torch.stack([score.to(scores[0].device) for score in scores])
        weights = torch.tensor(self.weights or [1.0] * len(scores), dtype=torch.float64, device=log_odds.device)
        column = weights.reshape(-1, *[1] * state.finished.dim())
        if self.how == "product":
            return from_log_surprisal(torch.logsumexp(log_surprisal(log_odds) + column.log(), 0))
        if self.how == "min":
            return log_odds.amin(0)
        if self.how == "mixture":
            return of_mixture((weights / weights.sum()).log(), log_odds)
        return self._mean(log_odds, column / column.sum(), state)

    def _mean(self, log_odds: Tensor, weights: Tensor, state: TextState) -> Tensor:
        contradictory = (log_odds == torch.inf).any(0) & (log_odds == -torch.inf).any(0)
        if contradictory.any():
            text = state.texts.flat[int(contradictory.reshape(-1).nonzero()[0])]
            raise RewardError(
                f"Of the rewards of {self!r}, one is sure to accept the text {text!r} and another is sure to reject "
                "it; the mean of their log-odds is undefined. Soften one by `with_error`, or take "
                'how="mixture" or "product".'
            )
        return (weights * log_odds).sum(0)

    def __repr__(self) -> str:
        weights = "" if self.weights is None else f", weights={list(self.weights)!r}"
        return f"Ensemble({list(self.rewards)!r}{weights}, how={self.how!r})"
