"""Calibrated scores of held-out rows."""

import numpy as np
import pytest

from pyro_llm.errors import CalibrationError, OptionError
from pyro_llm.rewards import TemperatureScaling, held_out_log_odds


def scores_of(count, seed=0):
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(size=count)
    return 3 * log_odds, (rng.random(count) < 1 / (1 + np.exp(-log_odds))).astype(int)


def test_no_row_is_in_its_own_fit(monkeypatch):
    (scores, labels), groups, seen = scores_of(60), np.arange(60) // 3, []

    def fit(log_odds, labels, method):
        seen.append(set(log_odds.tolist()))
        return TemperatureScaling(temperature=len(seen))

    monkeypatch.setattr("pyro_llm.rewards.calibration.held_out.fit_calibration", fit)
    temperatures = scores / held_out_log_odds(scores, labels, "temperature", groups=groups, folds=4)
    for row, temperature in enumerate(temperatures.round().astype(int)):
        assert not set(scores[groups == groups[row]].tolist()) & seen[temperature - 1]
        assert len(seen[temperature - 1]) == 45


def test_bad_input():
    scores, labels = scores_of(10)
    with pytest.raises(CalibrationError, match="2 rows or groups for 3 folds"):
        held_out_log_odds(scores, labels, groups=np.arange(10) // 5, folds=3)
    with pytest.raises(CalibrationError, match=r"groups has shape \(3,\) for 10 rows"):
        held_out_log_odds(scores, labels, groups=[0, 1, 2])
    with pytest.raises(OptionError, match="folds=1"):
        held_out_log_odds(scores, labels, folds=1)
    with pytest.raises(CalibrationError, match="Without fold 2 of 2 there is no fit: There are 2 labels, all of them"):
        held_out_log_odds([1.0, 2.0, 3.0, 4.0], [0, 0, 0, 1], groups=[0, 0, 1, 1], folds=2)
