"""What rewards made of one other reward share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pyro_llm.errors import OptionError, RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.reward_model import RewardModel, ask


@dataclass(frozen=True)
class Derived(Reward):
    """A function of the log-odds of another reward, in float64.

    It keeps no scores: the other reward does, so that deriving a reward anew in each step costs nothing.

    Args:
        reward: the other reward, a `RewardModel`.
    """

    reward: RewardModel

    def __post_init__(self) -> None:
        check_reward(self.reward)

    @abstractmethod
    def transform(self, log_odds: Tensor) -> Tensor:
        """The log-odds of this reward from those of the other one; float64, of the same shape."""

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text of `state` is accepted. Shape `state.batch_shape`, float64."""
        return self.transform(ask(self.reward, state).double())


def check_reward(reward: object) -> None:
    """Raise RewardError for what cannot be called."""
    if not callable(reward):
        raise RewardError(f"{reward!r} is no reward: it cannot be called. A reward maps a TextState to log-odds.")


def check_probability(name: str, value: Any) -> None:
    """Raise OptionError for what is no number in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise OptionError(f"{name}={value!r}: give a probability, a number in [0, 1].")


def written(reward: object) -> str:
    """A reward as the operand of an expression."""
    text = repr(reward)
    return f"({text})" if " ** " in text and not text.endswith(")") else text
