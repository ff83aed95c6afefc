"""Raters of uncertain reliability as one reward."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.errors import RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.raters.posterior import RaterPosterior
from pyro_llm.raters.ratings import Ratings
from pyro_llm.rewards.reward import Reward
from pyro_llm.rewards.reward_model import RewardModel, ask, distinct_texts


@dataclass(frozen=True, repr=False)
class RatersReward(Reward):
    r"""The probability that a text is right, given what several raters say of it and what is known of their errors.

    With the scores $s_1, \dots, s_K$ of the text, $D$ draws $\theta$ of prevalence, sensitivities and specificities,
    and the channel of each rater ($L$, see `pyro_llm.raters.channel`),

    $$ P(\text{right}, s) = \frac{1}{D} \sum_\theta \rho_\theta \prod_k L_\theta(s_k \mid \text{right}), \qquad
       P(\text{wrong}, s) = \frac{1}{D} \sum_\theta (1 - \rho_\theta) \prod_k L_\theta(s_k \mid \text{wrong}), $$

    and the reward is $P(\text{right}, s) / (P(\text{right}, s) + P(\text{wrong}, s))$: the likelihoods are averaged
    over the posterior of the errors, and no error is put at a single value. For one rater with known errors, both $e$,
    and a prevalence of 1/2 it is `rater.with_error(e, e)`.

    Each text is judged for itself: the draws are averaged over anew at every `accept`. With `emission="potential"` only
    the average over the whole text is in the target.

    Args:
        posterior: from `fit_raters`.
        raters: names in the posterior, each with its reward. Raters without one (people) say nothing here.

    Raises:
        RewardError: there is no rater, or one cannot be called; when called, what they raise.
        RatingsError: a rater is not in the posterior; when called, raters that never err contradict each other.
    """

    posterior: RaterPosterior
    raters: tuple[tuple[str, RewardModel], ...]

    def __post_init__(self) -> None:
        if not self.raters:
            raise RewardError("A reward of raters needs at least one rater: give them by name, {'prm': prm}.")
        for name, rater in self.raters:
            if not callable(rater):
                raise RewardError(f"The rater {name!r} is no reward: {rater!r} cannot be called.")
        self.posterior.log_joint(self._ratings(torch.zeros(0, len(self.raters), dtype=torch.float64)))

    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text of `state` is right. Shape `state.batch_shape`, float64."""
        scores = [ask(rater, state).double().sigmoid() for _, rater in self.raters]
        distinct, place = torch.stack([score.reshape(-1).cpu() for score in scores], -1).unique(
            dim=0, return_inverse=True
        )
        texts = dict(zip(place.tolist(), distinct_texts(state), strict=True))
        log_odds = self.posterior.log_odds(self._ratings(distinct), [texts[row] for row in range(len(distinct))])[place]
        return log_odds.reshape(state.batch_shape).to(state.tokens.device)

    def _ratings(self, table: Tensor) -> Ratings:
        return Ratings.of(table, raters=[name for name, _ in self.raters])

    def __repr__(self) -> str:
        return f"RatersReward({', '.join(f'{name}={rater!r}' for name, rater in self.raters)})"
