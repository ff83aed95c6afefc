"""What a calibration is: a map of log-odds."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod

from pydantic import BaseModel, ConfigDict
from torch import Tensor


class Calibration(BaseModel, ABC):
    """A monotone map from the log-odds of a score to calibrated log-odds; hashable and equal by its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    @abstractmethod
    def __call__(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds, float64, of the same shape."""

    def save(self, path: str | os.PathLike[str], reward: str | None = None) -> None:
        """Write the calibration to a JSON file, whole or not at all; `load_calibration` reads it.

        Args:
            path: of the file.
            reward: the name of the reward that it was fitted for, to be checked when it is loaded for one.

        Raises:
            OutputPathError: the file cannot be written.
        """
        from pyro_llm.rewards.calibration.file import save_calibration

        save_calibration(self, path, reward)
