"""The base of rewards that can be composed: powers, errors, calibration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor

from pyro_llm.lm.state import TextState

if TYPE_CHECKING:
    from pyro_llm.rewards.calibration import Calibration
    from pyro_llm.rewards.composition import Calibrated, Power, WithError


class Reward(ABC):
    """A `RewardModel` with operators, each of which gives a reward again, equal to any other made alike.

    A subclass implements `__call__`. A plain function of a state is a `RewardModel` too; for the same operators write
    `Power(fn, 2.0)`, `WithError(fn, 0.05, 0.1)`, `Calibrated(fn, calibration)`.
    """

    @abstractmethod
    def __call__(self, state: TextState) -> Tensor:
        """Log-odds that each text of `state` is accepted. A floating tensor of shape `state.batch_shape`."""

    def __pow__(self, exponent: float) -> Power:
        r"""The reward whose probability of acceptance is $r^\beta$; see `Power`."""
        from pyro_llm.rewards.composition import Power

        return Power(self, exponent)

    def with_error(self, false_accept: float = 0.0, false_reject: float = 0.0) -> WithError:
        """The reward that allows for errors of this one; see `WithError`."""
        from pyro_llm.rewards.composition import WithError

        return WithError(self, false_accept, false_reject)

    def calibrated(self, calibration: Calibration) -> Calibrated:
        """The reward whose log-odds are what `calibration` makes of this one's; see `Calibrated`."""
        from pyro_llm.rewards.composition import Calibrated

        return Calibrated(self, calibration)
