"""The emission of the paper's state-space model: whether a text is accepted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from pyro.distributions import TorchDistribution, constraints
from pyro.ops.provenance import track_provenance
from torch import Size, Tensor
from torch.nn.functional import logsigmoid

from pyro_llm.distributions.arguments import check_state
from pyro_llm.distributions.provenance import detach_state, state_provenance
from pyro_llm.errors import RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.reward_model import RewardModel, ask


class _Judgement:
    """The log-odds of a state's texts, asked for at most once; shared by the expanded copies of a distribution."""

    def __init__(self, reward: RewardModel, state: TextState) -> None:
        self.reward, self.state = reward, state
        self._log_odds: Tensor | None = None

    @property
    def log_odds(self) -> Tensor:
        if self._log_odds is None:
            judge([self])
        return cast(Tensor, self._log_odds)

    def settle(self, log_odds: Tensor) -> None:
        self._log_odds = track_provenance(log_odds, state_provenance(self.state))

    def kind(self) -> tuple[object, ...]:
        """Judgements that agree in this can be made together."""
        return id(self.reward), id(self.state.lm), self.state.prompt, self.state.batch_shape


def judge(judgements: Sequence[_Judgement]) -> None:
    """Ask for the log-odds that are not yet known, of states of one problem and one reward together."""
    batches: dict[tuple[object, ...], list[_Judgement]] = {}
    for judgement in judgements:
        if judgement._log_odds is None:
            batches.setdefault(judgement.kind(), []).append(judgement)
    for batch in batches.values():
        reward, states = batch[0].reward, [detach_state(judgement.state) for judgement in batch]
        state = TextState.stack(states) if len(states) > 1 else states[0]
        log_odds = ask(reward, state)
        for judgement, part in zip(batch, log_odds if len(states) > 1 else [log_odds], strict=True):
            judgement.settle(part)


class Acceptance(TorchDistribution):
    r"""Bernoulli: 1 if a text is accepted, with log-odds that a reward model gives when they are first needed.

    The emission $p(o_t \mid c, x_{1:t}) = \mathrm{Bernoulli}(o_t; r(c, x_{1:t}))$ of Puri et al. (arXiv 2502.01618,
    Section 3). Constructing, expanding and replaying it scores nothing: only `log_prob`, `sample` and `logits` do.
    Log-probabilities come from the log-odds without passing through a probability, in their dtype, so a reward near
    certainty keeps its digits.

    Args:
        reward: the reward model, a `RewardModel`.
        state: the texts to judge. Its batch shape is that of the distribution; the event shape is empty.

    Raises:
        OptionError: `state` is no `TextState`.
        RewardError: at once, if `reward` is no callable; when it scores, if it returns NaN or a wrong shape.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.rewards import FunctionReward
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> Acceptance(FunctionReward(lambda text: 0.25), state).log_prob(torch.tensor(1.0)).exp()
        tensor(0.2500, dtype=torch.float64)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own declaration)
    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, reward: RewardModel, state: TextState, validate_args: bool | None = None) -> None:
        if not callable(reward):
            raise RewardError(
                f"{reward!r} is no reward: it cannot be called. A reward maps a TextState to log-odds; "
                "wrap a function from a text to a probability in `FunctionReward`."
            )
        check_state(state, "Acceptance")
        self._judgement = _Judgement(reward, state)
        super().__init__(Size(state.batch_shape), Size(), validate_args=validate_args)

    @property
    def reward(self) -> RewardModel:
        """The reward model."""
        return self._judgement.reward

    @property
    def state(self) -> TextState:
        """The texts that are judged, of the batch shape before any `expand`."""
        return self._judgement.state

    @property
    def logits(self) -> Tensor:
        """Log-odds of acceptance, of shape `batch_shape`. Runs the reward model when first asked for."""
        return self._judgement.log_odds.expand(self.batch_shape)

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Acceptance | None = None
    ) -> Acceptance:
        """The distribution broadcast on the left to `batch_shape`; scores nothing."""
        new = self._get_checked_instance(Acceptance, _instance)
        new._judgement = self._judgement
        super(Acceptance, new).__init__(Size(batch_shape), Size(), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Tensor:
        """Draw acceptances, 0 or 1 in the dtype of the log-odds. Shape `sample_shape + batch_shape`."""
        logits = self.logits.expand(self._extended_shape(Size(sample_shape)))
        uniform = torch.rand(logits.shape, dtype=torch.float64).to(logits.device)
        return (uniform.log() < logsigmoid(logits)).to(logits.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of `value` in the dtype of the log-odds. Shape: that of `value` broadcast with the batch."""
        if self._validate_args:
            self._validate_sample(value)
        logits = self.logits
        return torch.where(value.to(logits.device) != 0, logsigmoid(logits), logsigmoid(-logits))

    @classmethod
    def log_prob_together(cls, distributions: Sequence[Acceptance], values: Sequence[Tensor]) -> list[Tensor]:
        """The log-probability of a value under each of several distributions, their texts judged in one batch."""
        judge([distribution._judgement for distribution in distributions])
        return [emission.log_prob(value) for emission, value in zip(distributions, values, strict=True)]

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Both values along a new leftmost dimension; scores nothing."""
        values = torch.arange(2.0, device=self.state.tokens.device).reshape((2,) + (1,) * len(self.batch_shape))
        return values.expand((2, *self.batch_shape)) if expand else values

    def __repr__(self) -> str:
        return f"Acceptance({self.reward!r}, batch_shape={tuple(self.batch_shape)})"
