"""A reward whose scores outlive the run."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from pyro_llm.errors import RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.counts import check_count
from pyro_llm.rewards.kept_scores import KeptScores
from pyro_llm.rewards.reward_model import TextReward


class Cached(TextReward):
    """A reward that remembers its scores from one run to the next, `reward.cached(size)`.

    Rewards keep scores for a run; this keeps those of the texts that were asked for last, for as long as the object
    lives. A text that it knows costs a run nothing, no call and no tokens, and counts for nothing in a budget. So a
    second run at the same seed reads nothing anew. Scores are found by what they depend on (problem, text, and whether
    it has ended, for a reward model), so the reward must be a fixed function of that. Make it once, outside of the
    program: another object, though equal, begins with nothing.

    Args:
        reward: one that scores texts, and is no composition of others: `reward.cached().calibrated(c)`, not the other
            way round.
        size: the most scores that are kept; those that were not asked for the longest go first.

    Raises:
        RewardError: the reward scores no texts of its own.
        OptionError: the size is no whole number of at least 1.

    Example:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import ArithmeticReward
        >>> reward = ArithmeticReward().cached(size=1000)
        >>> reward(TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")), len(reward)
        (tensor(inf, dtype=torch.float64), 1)
    """

    def __init__(self, reward: TextReward, size: int = 1_000_000) -> None:
        if not isinstance(reward, TextReward):
            raise RewardError(
                f"{reward!r} scores no texts of its own. Keep the scores of the reward that it is made of: "
                "reward.cached().calibrated(...)."
            )
        self.reward, self.size = reward, check_count("size", size)
        self._kept: KeptScores[Hashable] = KeptScores(self.size)

    def items(self, state: TextState) -> Sequence[Hashable]:
        """What the reward's score depends on."""
        return self.reward.items(state)

    def score(self, items: Sequence[Any]) -> list[float]:
        """Log-odds of each item, those that are not known from the reward."""
        known = self._kept.known(items)
        new = [item for item in items if item not in known]
        if new:
            scored = dict(zip(new, self.reward._scored(new), strict=True))
            self._kept.keep(scored)
            known |= scored
        return [known[item] for item in items]

    def __len__(self) -> int:
        """How many scores are kept."""
        return len(self._kept)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cached) and (self.reward, self.size) == (other.reward, other.size)

    def __hash__(self) -> int:
        return hash((Cached, self.reward, self.size))

    def __repr__(self) -> str:
        return f"{self.reward!r}.cached(size={self.size})"
