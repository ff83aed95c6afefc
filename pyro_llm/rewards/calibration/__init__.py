"""Calibration of scores: fitted on outcomes, kept in a file, applied to a reward."""

from pyro_llm.rewards.calibration.calibration import Calibration
from pyro_llm.rewards.calibration.file import load_calibration
from pyro_llm.rewards.calibration.fit import CalibrationMethod, fit_calibration
from pyro_llm.rewards.calibration.held_out import held_out_log_odds
from pyro_llm.rewards.calibration.maps import BetaCalibration, IsotonicCalibration, PlattScaling, TemperatureScaling

__all__ = [
    "BetaCalibration",
    "Calibration",
    "CalibrationMethod",
    "IsotonicCalibration",
    "PlattScaling",
    "TemperatureScaling",
    "fit_calibration",
    "held_out_log_odds",
    "load_calibration",
]
