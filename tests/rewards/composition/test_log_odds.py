"""Composed log-odds against 400-digit arithmetic, where doubles of probabilities have nothing left."""

import math

import mpmath
import pytest
import torch

from pyro_llm.rewards.log_odds import from_log_surprisal, from_probability, log_surprisal, of_mixture, of_noisy

EXTREME = [-1e5, -800.0, -745.2, -40.0, -37.1, -1.0, -1e-9, 0.0, 1e-9, 0.5, 20.1, 36.9, 37.1, 40.0, 745.2, 800.0, 1e5]


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(400):
        yield


def accepted(log_odds):
    return 1 / (1 + mpmath.exp(-mpmath.mpf(log_odds)))


def rejected(log_odds):
    return 1 / (1 + mpmath.exp(mpmath.mpf(log_odds)))


def close(actual, expected):
    """Within 1e-12, of the value where it exceeds 1."""
    return abs(mpmath.mpf(actual) - expected) <= 1e-12 * max(1, abs(expected))


def minus_log_sigmoid(log_odds):
    """-log r, from its series where 1 - r is below what 400 digits hold."""
    small = rejected(log_odds)
    return small if small < mpmath.mpf(10) ** -190 else -mpmath.log(accepted(log_odds))


def log_odds_of_surprisal(surprisal):
    if surprisal < mpmath.mpf(10) ** -190:
        return -mpmath.log(surprisal)
    return -surprisal - mpmath.log(-mpmath.expm1(-surprisal))


@pytest.mark.parametrize("exponent", [1e-6, 0.3, 1.0, 2.0, 1e4])
def test_power(exponent):
    log_odds = torch.tensor(EXTREME, dtype=torch.float64)
    actual = from_log_surprisal(log_surprisal(log_odds) + math.log(exponent)).tolist()
    for z, value in zip(EXTREME, actual, strict=True):
        assert close(value, log_odds_of_surprisal(exponent * minus_log_sigmoid(z))), (z, value)


def test_power_one_changes_nothing():
    log_odds = torch.tensor([*EXTREME, math.inf, -math.inf], dtype=torch.float64)
    torch.testing.assert_close(from_log_surprisal(log_surprisal(log_odds)), log_odds, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("false_accept", "false_reject"), [(0.0, 0.0), (0.05, 0.1), (0.0, 0.3), (1e-300, 0.0), (0.7, 0.8)]
)
def test_errors(false_accept, false_reject):
    log_odds = torch.tensor(EXTREME, dtype=torch.float64)
    for z, value in zip(EXTREME, of_noisy(log_odds, false_accept, false_reject).tolist(), strict=True):
        right, wrong = accepted(z), rejected(z)
        yes = (1 - mpmath.mpf(false_reject)) * right + false_accept * wrong
        no = false_reject * right + (1 - mpmath.mpf(false_accept)) * wrong
        assert close(value, mpmath.log(yes) - mpmath.log(no)), (z, value)


def test_errors_of_the_certain():
    sure = torch.tensor([math.inf, -math.inf])
    assert of_noisy(sure, 0.0, 0.0).tolist() == [math.inf, -math.inf]
    expected = torch.tensor([0.9, 0.05], dtype=torch.float64).logit()
    torch.testing.assert_close(of_noisy(sure, 0.05, 0.1), expected, rtol=1e-14, atol=0)
    assert of_noisy(sure, 1.0, 1.0).tolist() == [-math.inf, math.inf]


@pytest.mark.parametrize("weights", [[0.5, 0.5], [1e-200, 1.0], [0.25, 0.75]])
def test_mixture(weights):
    pairs = [(one, other) for one in EXTREME for other in EXTREME]
    log_weights = torch.tensor(weights, dtype=torch.float64).log()
    actual = of_mixture(log_weights, torch.tensor(pairs, dtype=torch.float64).T).tolist()
    for pair, value in zip(pairs, actual, strict=True):
        yes = sum(mpmath.mpf(w) * accepted(z) for w, z in zip(weights, pair, strict=True))
        no = sum(mpmath.mpf(w) * rejected(z) for w, z in zip(weights, pair, strict=True))
        assert close(value, mpmath.log(yes) - mpmath.log(no)), (pair, value)


def test_from_probability():
    assert from_probability(1) == math.inf
    assert from_probability(0.0) == -math.inf
    assert close(from_probability(1e-300), mpmath.log(mpmath.mpf(1e-300)))
