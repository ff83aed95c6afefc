"""Measures of calibration against values worked out by hand, and against all pairs."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyro_llm.diagnostics import auc, brier_score, expected_calibration_error, plot_reliability, reliability_bins
from pyro_llm.errors import CalibrationError, OptionError

PROBABILITIES = [0.05, 0.1, 0.15, 0.35, 0.35, 0.9, 0.95, 1.0]
LABELS = [0, 1, 0, 0, 1, 1, 1, 0]


def test_bins_by_hand():
    bins = reliability_bins(PROBABILITIES, LABELS)
    assert bins.counts.tolist() == [2, 1, 2, 1, 2]  # (0, 0.1], (0.1, 0.2], (0.3, 0.4], (0.8, 0.9], (0.9, 1]
    assert bins.predicted == pytest.approx([0.075, 0.15, 0.35, 0.9, 0.975])
    assert bins.observed.tolist() == [0.5, 0, 0.5, 1, 0.5]


def test_expected_calibration_error_by_hand():
    expected = (2 * 0.425 + 0.15 + 2 * 0.15 + 0.1 + 2 * 0.475) / 8
    assert expected_calibration_error(PROBABILITIES, LABELS) == pytest.approx(expected, abs=1e-15)
    # Halves of equal mass: 0.05 to 0.35 (the ties stay together), and the rest.
    equal_mass = (5 * abs(0.2 - 0.4) + 3 * abs(0.95 - 2 / 3)) / 8
    assert expected_calibration_error(PROBABILITIES, LABELS, 2, "equal-mass") == pytest.approx(equal_mass, abs=1e-15)
    assert expected_calibration_error(PROBABILITIES, LABELS, 1) == pytest.approx(abs(3.85 / 8 - 0.5), abs=1e-15)


def test_ties_stay_together_whatever_their_order():
    order = np.random.default_rng(0).permutation(8)
    shuffled = np.array(PROBABILITIES)[order], np.array(LABELS)[order]
    for num_bins in range(1, 10):
        one = expected_calibration_error(PROBABILITIES, LABELS, num_bins, "equal-mass")
        assert expected_calibration_error(*shuffled, num_bins, "equal-mass") == pytest.approx(one, abs=1e-15)
    assert reliability_bins([0.3] * 5, [0, 1, 1, 0, 1], 3, "equal-mass").counts.tolist() == [5]


def test_bins_of_equal_mass_have_it():
    values = np.random.default_rng(0).random(1000)
    assert reliability_bins(values, values > 0.5, 10, "equal-mass").counts.tolist() == [100] * 10


def test_what_the_documentation_says_of_its_bias():
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(200):
        values = rng.random(400)
        errors.append(expected_calibration_error(values, rng.random(400) < values))
    assert np.mean(errors) == pytest.approx(0.4 * math.sqrt(10 / 400), rel=0.3)


def test_brier_by_hand():
    assert brier_score([0.1, 0.8, 1.0], [0, 1, 0]) == pytest.approx((0.01 + 0.04 + 1) / 3, abs=1e-15)


def test_auc_is_the_share_of_pairs():
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 12, 300).astype(float), rng.integers(0, 2, 300)
    scores[:4] = [math.inf, -math.inf, math.inf, -math.inf]
    pairs = [(a > r) + (a == r) / 2 for a in scores[labels == 1] for r in scores[labels == 0]]
    assert auc(scores, labels) == np.mean(pairs)
    assert auc([1, 2, 3], [0, 1, 1]) == 1
    assert auc([2, 2], [0, 1]) == 0.5


def test_bad_input():
    for function in (brier_score, expected_calibration_error, auc):
        with pytest.raises(CalibrationError, match="2 scores and 3 labels"):
            function([0.1, 0.2], [0, 1, 1])
        with pytest.raises(CalibrationError, match="label at index 1"):
            function([0.1, 0.2], [0, 2])
        with pytest.raises(CalibrationError, match="NaN"):
            function([0.1, math.nan], [0, 1])
    with pytest.raises(CalibrationError, match="take the sigmoid"):
        brier_score([0.5, 3.0], [0, 1])
    with pytest.raises(CalibrationError, match="both classes"):
        auc([0.5, 0.6], [1, 1])
    with pytest.raises(OptionError, match="'equal-width', 'equal-mass'"):
        reliability_bins([0.5], [1], binning="quantile")
    with pytest.raises(OptionError, match="num_bins"):
        reliability_bins([0.5], [1], num_bins=0)
    with pytest.raises(OptionError, match="0 sets"):
        plot_reliability({}, [1])


def test_the_diagram_shows_the_bins():
    ax = plot_reliability(PROBABILITIES, LABELS)
    line = ax.get_lines()[1]
    bins = reliability_bins(PROBABILITIES, LABELS)
    assert line.get_xdata().tolist() == bins.predicted.tolist()
    assert line.get_ydata().tolist() == bins.observed.tolist()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["error 0.294"]

    given = Figure().subplots()
    assert plot_reliability({"before": PROBABILITIES, "after": LABELS}, LABELS, given) is given
    names = [text.get_text() for text in given.get_legend().get_texts()]
    assert names == ["before: error 0.294", "after: error 0.000"]
    assert given.figure.canvas is not None
