"""What a judgement of a reward multiplies the weight of a text by: three emissions, with an inverse temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_llm.distributions.acceptance import _Judgement, judge
from pyro_llm.distributions.lazy_factor import LazyFactor
from pyro_llm.errors import OptionError, RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward_model import RewardModel

EmissionName = Literal["bernoulli", "potential", "odds"]


class EmissionFactor(LazyFactor):
    r"""The factor of a judged text, $g_t^\beta$, where with $r_t$ the probability that the reward gives to $x_{1:t}$

    - `"bernoulli"`: $g_t = r_t$, the likelihood of "every step was accepted". Target $p(x) \prod_t r_t^\beta$.
    - `"potential"`: $g_t = r_t / r_{t-1}$, where $r_{t-1}$ is what this reward gave to the last prefix of the text that
      it judged (1 before the first). It telescopes: the target is $p(x)\, r_T^\beta$, with $r_T$ the reward of the
      whole text, and the rewards of prefixes only guide.
    - `"odds"`: $g_t = r_t / (1 - r_t)$. Target $p(x) \prod_t (r_t / (1 - r_t))^\beta$; no probability model has it
      as its likelihood, so the evidence is no probability and may exceed 1.

    Lazy, as `Acceptance` is. Two judgements are asked for where `"potential"` compares two prefixes, in one batch; of
    rewards that remember their scores during a run (`TextReward`) the earlier one is free.

    Args:
        reward: the reward model.
        state: the texts that are judged. `state.judged_lengths(reward)` says which prefixes were judged before.
        emission: which factor.
        inverse_temperature: $\beta > 0$, a number or a tensor that broadcasts with the batch. Gradients flow to it.

    Raises:
        OptionError: there is no such emission; an inverse temperature that is not positive and finite.
        RewardError: `reward` is no callable; when it scores: NaN or a wrong shape, or, for `"odds"`, a reward of
            exactly 1, whose odds are infinite.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> factor = EmissionFactor(FunctionReward(lambda text: 0.8), state, "odds", inverse_temperature=0.5)
        >>> factor.log_prob(factor.sample()).exp()
        tensor(2., dtype=torch.float64)
    """

    def __init__(
        self,
        reward: RewardModel,
        state: TextState,
        emission: EmissionName = "bernoulli",
        inverse_temperature: float | Tensor = 1.0,
        validate_args: bool | None = None,
    ) -> None:
        check_emission(emission, inverse_temperature)
        if not callable(reward):
            raise RewardError(f"{reward!r} is no reward: it cannot be called. A reward maps a TextState to log-odds.")
        self.reward, self.state, self.emission = reward, state, emission
        self.inverse_temperature = inverse_temperature
        self._now, self._before = (
            _Judgement(reward, state),
            _earlier(reward, state) if emission == "potential" else None,
        )
        shape = inverse_temperature.shape if isinstance(inverse_temperature, Tensor) else ()
        batch_shape = torch.broadcast_shapes(state.batch_shape, shape)
        super().__init__(self._compute, batch_shape, state.tokens.device, validate_args)

    @classmethod
    def log_prob_together(cls, distributions: Sequence[EmissionFactor], values: Sequence[Tensor]) -> list[Tensor]:
        """The logarithm of each of several factors, their texts judged in one batch."""
        judge([judgement for factor in distributions for judgement in factor._judgements()])
        return [factor.log_prob(value) for factor, value in zip(distributions, values, strict=True)]

    def _judgements(self) -> list[_Judgement]:
        return [self._now] if self._before is None else [self._before, self._now]

    def _compute(self) -> Tensor:
        judge(self._judgements())
        log_odds = self._now.log_odds
        if self.emission == "odds":
            if (log_odds == torch.inf).any():
                raise RewardError(
                    f"The reward {self.reward!r} gives a probability of exactly 1, and its odds are infinite. With "
                    'emission="odds" keep rewards below 1, or take emission="bernoulli" or "potential".'
                )
            log_factor = log_odds
        elif self._before is None:
            log_factor = logsigmoid(log_odds)
        else:
            before = logsigmoid(self._before.log_odds)
            before = torch.where(self.state.judged_lengths(self.reward) < 0, 0.0, before)
            # After a prefix of reward 0 the weight is 0 for good.
            log_factor = torch.where(before == -torch.inf, -torch.inf, logsigmoid(log_odds) - before)
        if isinstance(self.inverse_temperature, Tensor):
            return self.inverse_temperature.to(log_factor.device) * log_factor
        return log_factor * self.inverse_temperature

    def __repr__(self) -> str:
        return (
            f"EmissionFactor({self.reward!r}, batch_shape={tuple(self.batch_shape)}, emission={self.emission!r}, "
            f"inverse_temperature={self.inverse_temperature!r})"
        )


def check_emission(emission: Any, inverse_temperature: Any) -> None:
    """Raise OptionError for an emission that does not exist, or an inverse temperature that is not positive."""
    if emission not in get_args(EmissionName):
        known = ", ".join(map(repr, get_args(EmissionName)))
        raise OptionError(f"There is no emission {emission!r}; choose one of {known}.")
    if isinstance(inverse_temperature, Tensor):
        valid = bool(((inverse_temperature > 0) & inverse_temperature.isfinite()).all())
    else:
        is_number = isinstance(inverse_temperature, int | float) and not isinstance(inverse_temperature, bool)
        valid = is_number and inverse_temperature > 0 and math.isfinite(inverse_temperature)
    if not valid:
        raise OptionError(
            f"inverse_temperature={inverse_temperature!r}: give a positive, finite number, or a tensor of such; the "
            "logarithm of the factor is multiplied by it."
        )


def _earlier(reward: RewardModel, state: TextState) -> _Judgement | None:
    """The prefixes judged last, to be judged again (scores are remembered); None where there is none."""
    lengths = state.judged_lengths(reward)
    if not bool((lengths >= 0).any()):
        return None
    # Texts that were never judged stand for themselves: no other prefix of theirs is to be asked about.
    return _Judgement(reward, state.truncate(torch.where(lengths < 0, state.lengths, lengths)))
