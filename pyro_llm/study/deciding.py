"""The choice of an answer by the last reward, as the paper on particle filtering makes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Literal

import torch
from torch import Tensor

from pyro_llm.infer import Posterior
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.reward_model import RewardModel, ask, distinct_texts

Decide = Literal["highest last reward"]
"""How an answer is chosen other than by `Posterior.decision`: the answer of the text with the highest last reward, as
Puri et al. (arXiv 2502.01618) have it. It is the rule of best-of-N, and one overrated text is enough to mislead it."""


class LastRewards(Reward):
    """A reward that remembers what it last said of each text, and can name the best of them.

    What it remembers is the reward itself, whatever the program makes of it: with any emission, power or mask.

    Args:
        reward: what it says.
    """

    def __init__(self, reward: RewardModel) -> None:
        self.reward = reward
        self._said: dict[tuple[str, str], float] = {}

    def __call__(self, state: TextState) -> Tensor:
        """What the reward says: log-odds of shape `state.batch_shape`."""
        log_odds = ask(self.reward, state)
        for text, value in zip(distinct_texts(state), log_odds.flatten().tolist(), strict=True):
            self._said[state.prompt, text] = value
        return log_odds

    def decision(self, posterior: Posterior, read: Callable[[str], Hashable | None]) -> Hashable | None:
        """The answer of the text with the highest last reward.

        As where searches decide, texts without an answer are passed over, and of equal texts the first counts. Only
        particles of positive weight are looked at.

        Args:
            posterior: of a program that this reward has judged.
            read: from a text to its answer.

        Returns:
            The answer; None if no such text states one.

        Raises:
            AllParticlesDeadError: no run has positive evidence.
        """
        texts = posterior.texts
        eligible = torch.isfinite(posterior.pooled_log_weights).reshape(texts.shape).numpy()
        candidates = dict.fromkeys(texts[eligible].tolist())
        prompt = posterior.written.prompt or ""
        ranked = sorted(candidates, key=lambda text: -self._said.get((prompt, text), -math.inf))
        return next((found for text in ranked if (found := read(text)) is not None), None)
