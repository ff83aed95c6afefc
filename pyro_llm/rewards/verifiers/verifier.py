"""The base of verifiers that run in this process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from pyro_llm.lm.state import TextState
from pyro_llm.rewards.log_odds import from_probability
from pyro_llm.rewards.reward_model import TextReward, distinct_texts
from pyro_llm.run_scope import claim, current_cost


class Verifier(TextReward):
    """A rule for texts. Subclasses implement `probability`."""

    @abstractmethod
    def probability(self, text: str) -> float:
        """The probability, in [0, 1], that a text since the prompt is accepted."""

    def items(self, state: TextState) -> list[Any]:
        """The texts since the prompt."""
        return distinct_texts(state)

    def score(self, items: Sequence[str]) -> list[float]:
        """Log-odds of each text."""
        claim(reward_calls=len(items))
        current_cost().reward_calls += len(items)
        return [from_probability(self.probability(text)) for text in items]
