"""Fits held against the conditions of their optimum, the laws that made the labels, and definitions."""

import math

import numpy as np
import pytest
import torch

from pyro_llm.errors import CalibrationError
from pyro_llm.rewards import (
    BetaCalibration,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    fit_calibration,
)

METHODS = ["platt", "temperature", "beta", "isotonic"]


def sigmoid(log_odds):
    return 1 / (1 + np.exp(-np.asarray(log_odds)))


def draw(count, law, seed=0, scale=2.5):
    """Scores, and labels drawn with log-odds `law(score)`."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(scale=scale, size=count)
    return scores, (rng.random(count) < sigmoid(law(scores))).astype(int)


def smoothed(labels):
    right, wrong = labels.sum(), (1 - labels).sum()
    return np.where(labels == 1, (right + 1) / (right + 2), 1 / (wrong + 2))


def test_platt_is_at_its_optimum():
    scores, labels = draw(300, lambda z: 0.4 * z - 1)
    fit = fit_calibration(scores, labels, "platt")
    residual = sigmoid(fit.slope * scores + fit.intercept) - smoothed(labels)
    assert abs(residual.mean()) < 1e-7
    assert abs((residual * scores).mean()) < 1e-7


def test_temperature_is_at_its_optimum():
    scores, labels = draw(300, lambda z: z / 3)
    fit = fit_calibration(torch.tensor(scores), torch.tensor(labels).bool(), "temperature")
    residual = sigmoid(scores / fit.temperature) - smoothed(labels)
    assert abs((residual * scores).mean()) < 1e-7


@pytest.mark.parametrize("law", [lambda z: 0.4 * z - 1, lambda z: -2 * np.logaddexp(0, -z) + 1])
def test_beta_is_at_its_optimum(law):
    """The gradient is zero in each coefficient, or points outward where one is at its bound."""
    scores, labels = draw(300, law)
    fit = fit_calibration(scores, labels, "beta")
    features = np.stack([-np.logaddexp(0, -scores), np.logaddexp(0, scores), np.ones(300)])
    coefficients = np.array([fit.a, fit.b, fit.c])
    gradient = features @ (sigmoid(coefficients @ features) - smoothed(labels)) / 300
    at_bound = np.array([fit.a == 0, fit.b == 0, False])
    assert (np.abs(gradient[~at_bound]) < 1e-6).all()
    assert (gradient[at_bound] >= 0).all()


def test_the_generating_law_is_found():
    """20,000 labels: within 4 standard errors by the Fisher information; false alarms below 1 in 1000."""
    scores, labels = draw(20_000, lambda z: z / 3 - 0.5)
    weight = sigmoid(scores / 3 - 0.5) * (1 - sigmoid(scores / 3 - 0.5))
    information = np.array(
        [[(weight * scores**2).sum(), (weight * scores).sum()], [(weight * scores).sum(), weight.sum()]]
    )
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    fit = fit_calibration(scores, labels)
    assert abs(fit.slope - 1 / 3) < 4 * errors[0]
    assert abs(fit.intercept + 0.5) < 4 * errors[1]

    scores, labels = draw(20_000, lambda z: -2 * np.logaddexp(0, -z) + 0.5 * np.logaddexp(0, z) + 0.3)
    fit = fit_calibration(scores, labels, "beta")
    torch.testing.assert_close(torch.tensor([fit.a, fit.b, fit.c]), torch.tensor([2.0, 0.5, 0.3]), atol=0.25, rtol=0)


def test_isotonic_is_what_its_definition_says():
    """max over starts of min over ends of the mean, with an accepted and a rejected label at either end."""
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 15, 60).astype(float)
    labels = (rng.random(60) < scores / 15).astype(int)
    groups = [labels[scores == value] for value in np.unique(scores)]
    groups = [np.array([1, 0]), *groups, np.array([1, 0])]
    fit = fit_calibration(scores, labels, "isotonic")
    for place, value in enumerate(np.unique(scores), 1):
        mean = {
            (start, end): np.concatenate(groups[start : end + 1]).mean()
            for start in range(place + 1)
            for end in range(place, len(groups))
        }
        expected = max(min(mean[start, end] for end in range(place, len(groups))) for start in range(place + 1))
        assert fit(torch.tensor([value])).sigmoid().item() == pytest.approx(expected, rel=1e-12)


def test_isotonic_of_few_labels_by_hand():
    fit = fit_calibration([1.0, 2.0, 3.0], [0, 0, 1], "isotonic")
    assert fit.thresholds == (3.0,)
    assert fit.log_odds == pytest.approx((math.log(1 / 3), math.log(2)))  # 1 of 4, 2 of 3
    new = torch.tensor([-math.inf, 2.999, 3.0, math.inf])
    assert fit(new).tolist() == pytest.approx([math.log(1 / 3)] * 2 + [math.log(2)] * 2)
    hard = fit_calibration([-math.inf, -math.inf, math.inf, math.inf, math.inf], [0, 0, 1, 1, 0], "isotonic")
    assert hard(torch.tensor([-math.inf, math.inf])).sigmoid().tolist() == pytest.approx([1 / 4, 3 / 5])


@pytest.mark.parametrize("method", METHODS)
def test_separated_labels_have_a_finite_fit(method):
    fit = fit_calibration([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1], method)
    probabilities = fit(torch.tensor([-2.0, -1.0, 1.0, 2.0])).sigmoid()
    assert (probabilities[:2] < 0.5).all()
    assert (probabilities[2:] > 0.5).all()
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_a_turned_score():
    scores, labels = draw(500, lambda z: -z)
    assert fit_calibration(scores, labels).slope < -0.5
    with pytest.raises(CalibrationError, match=r"temperature is infinite.*AUC"):
        fit_calibration(scores, labels, "temperature")
    with pytest.raises(CalibrationError, match=r"slopes are both 0, and every text would be judged alike.*platt.*AUC"):
        fit_calibration(scores, labels, "beta")
    with pytest.raises(CalibrationError, match=r"never falls is constant, and every text would be judged alike.*platt"):
        fit_calibration(scores, labels, "isotonic")
    flat = BetaCalibration(a=0, b=0, c=0.5)
    assert flat(torch.tensor([-math.inf, 0.0, math.inf])).tolist() == [0.5] * 3


@pytest.mark.parametrize("method", ["temperature", "beta", "isotonic"])
def test_scores_that_are_all_the_same(method):
    with pytest.raises(CalibrationError, match="no higher where the label is 1"):
        fit_calibration([0.5] * 20, [0, 1] * 10, method) if method != "temperature" else fit_calibration(
            [-0.5] * 20, [0, 1] * 10, method
        )


def test_scores_of_any_size():
    scores, labels = draw(500, lambda z: z)
    small = fit_calibration(scores, labels)
    large = fit_calibration(scores * 1e8, labels)
    assert large.slope * 1e8 == pytest.approx(small.slope, rel=1e-4)


def test_maps_of_the_certain():
    sure = torch.tensor([-math.inf, math.inf])
    assert TemperatureScaling(temperature=3)(sure).tolist() == [-math.inf, math.inf]
    assert PlattScaling(slope=-2, intercept=1)(sure).tolist() == [math.inf, -math.inf]
    assert BetaCalibration(a=1, b=0, c=0.5)(sure).tolist() == [-math.inf, 0.5]
    identity = BetaCalibration(a=1, b=1, c=0)
    log_odds = torch.linspace(-700, 700, 57, dtype=torch.float64)
    torch.testing.assert_close(identity(log_odds), log_odds, rtol=1e-14, atol=1e-14)
    shaped = IsotonicCalibration(thresholds=(0.0,), log_odds=(-1.0, 1.0))(torch.tensor([[1.0, -1.0], [0.0, -0.1]]))
    assert shaped.tolist() == [[1.0, -1.0], [1.0, -1.0]]


@pytest.mark.parametrize(
    ("scores", "labels", "message"),
    [
        ([1.0, 2.0], [0], "2 scores and 1 labels"),
        ([[1.0], [2.0]], [0, 1], r"scores have shape \(2, 1\)"),
        ([1.0, math.nan], [0, 1], "index 1 is NaN"),
        ([1.0, 2.0], [0, 2], r"label at index 1 is 2\.0"),
        ([1.0, 2.0], [0, math.nan], "label at index 1 is nan"),
        ([1.0, 2.0], [1, 1], "2 labels, all of them 1"),
        ([1.0, 2.0], [False, False], "2 labels, all of them 0"),
        ([], [], "no labels"),
        (["high", "low"], [0, 1], "scores are no numbers"),
        ([1.0, math.inf], [0, 1], "index 1 are inf.*with_error"),
    ],
)
def test_bad_pairs(scores, labels, message):
    with pytest.raises(CalibrationError, match=message):
        fit_calibration(scores, labels)


def test_unknown_method():
    with pytest.raises(CalibrationError, match=r"'histogram'.*'platt', 'temperature', 'isotonic', 'beta'"):
        fit_calibration([1.0, 2.0], [0, 1], "histogram")
