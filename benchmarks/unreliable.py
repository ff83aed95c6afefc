"""A rater as Dawid and Skene have it: it hears a reward's verdict, and says it or the contrary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.lm import TextState
from pyro_llm.rewards import Reward, RewardModel
from pyro_llm.rewards.disturbance import keyed_uniforms
from pyro_llm.rewards.reward_model import distinct_texts


@dataclass(frozen=True)
class Unreliable(Reward):
    """A reward whose verdict on a text is turned round at random, for good, by a hash of the text.

    Args:
        reward: the reward. Its verdict is "right" if its log-odds are positive.
        sensitivity: the probability that "right" is said as it is; otherwise the log-odds are negated.
        specificity: the same of "wrong".
        seed: which texts.
        name: raters of different names err independently.
    """

    reward: RewardModel
    sensitivity: float
    specificity: float
    seed: int
    name: str

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds, some of them turned round. Shape `state.batch_shape`."""
        found = self.reward(state).double()
        return self.disturb(found.reshape(-1), state.prompt, distinct_texts(state)).reshape(state.batch_shape)

    def disturb(self, log_odds: Tensor, prompt: str, texts: Sequence[str]) -> Tensor:
        """What is said in place of known log-odds, one for each text."""
        kept = torch.where(log_odds > 0, self.sensitivity, self.specificity)
        drawn = keyed_uniforms(texts, prompt, self.seed, self.name).to(log_odds.device)
        return torch.where(drawn < kept, log_odds, -log_odds)
