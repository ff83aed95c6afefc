"""Measures before and after a calibration."""

import numpy as np
import pytest

from pyro_llm.diagnostics import auc, brier_score, calibration_change
from pyro_llm.errors import CalibrationError


def probabilities(count, seed=0):
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(size=count)
    right = 1 / (1 + np.exp(-log_odds))
    return 1 / (1 + np.exp(-3 * log_odds)), right, (rng.random(count) < right).astype(int)


def test_intervals_cover_the_difference():
    """Of the Brier score: the bootstrap against the normal interval of paired differences."""
    before, after, labels = probabilities(2000)
    change = calibration_change(before, after, labels)
    value, low, high = change["Brier score"].difference
    differences = (after - labels) ** 2 - (before - labels) ** 2
    half = 1.96 * differences.std() / np.sqrt(2000)
    assert value == pytest.approx(differences.mean(), abs=1e-12)
    assert (low, high) == pytest.approx((value - half, value + half), abs=0.15 * half)
    assert change["Brier score"].before.value == brier_score(before, labels)
    assert change["area under the curve"].after.value == auc(after, labels)


def test_rows_of_a_group_are_drawn_together():
    """Each row ten times over: the interval is that of the rows alone, not of ten times as many."""
    before, after, labels = probabilities(200)
    alone = calibration_change(before, after, labels)["Brier score"].difference
    repeated = [np.repeat(one, 10) for one in (before, after, labels, np.arange(200))]
    together = calibration_change(*repeated[:3], groups=repeated[3])["Brier score"].difference
    assert together == pytest.approx(alone, abs=1e-12)
    apart = calibration_change(*repeated[:3])["Brier score"].difference
    assert apart.high - apart.low < (together.high - together.low) / 2


def test_bad_input():
    with pytest.raises(CalibrationError, match=r"groups has shape \(1,\) for 2 rows"):
        calibration_change([0.1, 0.9], [0.2, 0.8], [0, 1], groups=[0])
    with pytest.raises(CalibrationError, match="1 scores and 2 labels"):
        calibration_change([0.1, 0.9], [0.2], [0, 1])
