"""A reward whose scores have been held against outcomes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.rewards.calibration import Calibration
from pyro_llm.rewards.composition.derived import Derived, written


@dataclass(frozen=True, repr=False)
class Calibrated(Derived):
    """A reward with its log-odds put right by a calibration, `reward.calibrated(calibration)`.

    Args:
        reward: the reward.
        calibration: from `fit_calibration` or `load_calibration`, or a `PlattScaling(...)` of known parameters.

    Raises:
        OptionError: the calibration is none.
    """

    calibration: Calibration

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.calibration, Calibration):
            raise OptionError(
                f"{self.calibration!r} is no calibration; take one from `fit_calibration` or `load_calibration`."
            )

    def transform(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds."""
        return self.calibration(log_odds)

    def __repr__(self) -> str:
        return f"{written(self.reward)}.calibrated({self.calibration!r})"
