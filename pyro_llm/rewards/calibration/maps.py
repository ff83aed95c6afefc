"""The four calibrations: temperature, Platt, beta and isotonic."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from pyro_llm.rewards.calibration.calibration import Calibration

Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class TemperatureScaling(Calibration):
    """Log-odds divided by a temperature (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017).

    Attributes:
        temperature: above 1 for a score that is too confident. Positive.

    Example:
        >>> TemperatureScaling(temperature=3.0)(torch.tensor([6.0, -3.0]))
        tensor([ 2., -1.], dtype=torch.float64)
    """

    method: Annotated[Literal["temperature"], Field(repr=False)] = "temperature"
    temperature: Positive

    def __call__(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds, float64, of the same shape."""
        return log_odds.double() / self.temperature


class PlattScaling(Calibration):
    """A line through the log-odds (Platt, "Probabilistic Outputs for Support Vector Machines", 1999).

    Attributes:
        slope: negative for a score that is high where it should be low; at 0 the score says nothing.
        intercept: what is added.
    """

    method: Annotated[Literal["platt"], Field(repr=False)] = "platt"
    slope: Finite
    intercept: Finite

    def __call__(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds, float64, of the same shape."""
        return _times(self.slope, log_odds.double()) + self.intercept


class BetaCalibration(Calibration):
    r"""$a \log r - b \log(1 - r) + c$ (Kull, Silva Filho & Flach, "Beta calibration", AISTATS 2017).

    What Platt scaling of log-odds is with $a = b$: here both ends of the scale have a slope of their own.

    Attributes:
        a: slope where the score is low. Not negative.
        b: slope where it is high. Not negative.
        c: intercept.
    """

    method: Annotated[Literal["beta"], Field(repr=False)] = "beta"
    a: NotNegative
    b: NotNegative
    c: Finite

    def __call__(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds, float64, of the same shape."""
        log_odds = log_odds.double()
        return _times(self.a, logsigmoid(log_odds)) - _times(self.b, logsigmoid(-log_odds)) + self.c


class IsotonicCalibration(Calibration):
    """A step function that never falls (Zadrozny & Elkan, KDD 2002).

    Attributes:
        thresholds: from which log-odds on each step but the lowest holds, ascending.
        log_odds: calibrated log-odds of each step, one more than thresholds; finite, and never falling.

    Example:
        >>> IsotonicCalibration(thresholds=(0.0,), log_odds=(-1.0, 2.0))(torch.tensor([-9.0, 0.0, torch.inf]))
        tensor([-1.,  2.,  2.], dtype=torch.float64)
    """

    method: Annotated[Literal["isotonic"], Field(repr=False)] = "isotonic"
    thresholds: tuple[float, ...]
    log_odds: tuple[Finite, ...]

    @model_validator(mode="after")
    def _monotone(self) -> IsotonicCalibration:
        if len(self.log_odds) != len(self.thresholds) + 1:
            raise ValueError("there must be one more of log_odds than of thresholds")
        if not all(low < high for low, high in pairwise(self.thresholds)):
            raise ValueError("thresholds must ascend")
        if not all(low <= high for low, high in pairwise(self.log_odds)):
            raise ValueError("log_odds must not fall")
        return self

    def __call__(self, log_odds: Tensor) -> Tensor:
        """Calibrated log-odds, float64, of the same shape."""
        thresholds = torch.tensor(self.thresholds, dtype=torch.float64, device=log_odds.device)
        steps = torch.tensor(self.log_odds, dtype=torch.float64, device=log_odds.device)
        return steps[torch.searchsorted(thresholds, log_odds.double().contiguous(), right=True)]


def _times(factor: float, log_odds: Tensor) -> Tensor:
    """The product, 0 where the factor is 0 and the log-odds are infinite: they say nothing then."""
    return torch.zeros_like(log_odds) if factor == 0 else factor * log_odds
