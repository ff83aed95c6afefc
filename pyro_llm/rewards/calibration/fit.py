"""Fitting a calibration to scores of known outcome."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_llm.errors import CalibrationError
from pyro_llm.labelled_scores import Floats, labelled_scores
from pyro_llm.rewards.calibration.calibration import Calibration
from pyro_llm.rewards.calibration.maps import BetaCalibration, IsotonicCalibration, PlattScaling, TemperatureScaling

CalibrationMethod = Literal["platt", "temperature", "isotonic", "beta"]


def fit_calibration(
    log_odds: Tensor | ArrayLike, labels: Tensor | ArrayLike, method: CalibrationMethod = "platt"
) -> Calibration:
    """Fit a calibration by maximum likelihood.

    Labels are smoothed as Platt (1999) does, an accepted one to (A + 1) / (A + 2) of A, a rejected one to 1 / (R + 2)
    of R, so that labels that a score separates have a finite fit too. Isotonic regression (pool adjacent violators)
    gets one accepted and one rejected label more at either end instead, Laplace's rule of succession for its first and
    last step (as Brummer & de Villiers, "The BOSARIS Toolkit", 2013): no text is then accepted or rejected for sure.

    Args:
        log_odds: scores, as log-odds. One-dimensional; only `"isotonic"` allows infinite ones.
        labels: 0 or 1 (or bool) for each, whether it should have been accepted.
        method: `"platt"`: slope and intercept; `"temperature"`: slope alone; `"beta"`: a slope at either end;
            `"isotonic"`: any function that never falls, for a thousand labels and more.

    Raises:
        CalibrationError: scores and labels are not one-dimensional and of one length; a score is NaN; a label is
            neither 0 nor 1; all labels are the same; scores that rank no better than chance, which
            only `"platt"` allows, or are infinite.

    Example:
        >>> fit_calibration([-4.0, 4.0] * 300, [0, 1, 0, 1, 0, 1, 0, 1, 1, 0] * 60, "temperature").temperature
        2.9...
    """
    scores, outcomes = labelled_scores(log_odds, labels)
    accepted = outcomes == 1
    if accepted.all() or not accepted.any():
        raise CalibrationError(
            f"There are {outcomes.size} labels, all of them {int(outcomes[0])}: what a score says of outcomes shows "
            "only if there are both, 0 and 1."
        )
    if method not in get_args(CalibrationMethod):
        known = ", ".join(map(repr, get_args(CalibrationMethod)))
        raise CalibrationError(f"There is no method {method!r} of calibration; choose one of {known}.")
    if method != "isotonic" and not np.isfinite(scores).all():
        place = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise CalibrationError(
            f"The log-odds at index {place} are {scores[place]}: a score of exactly 0 or 1 moves by no slope. Give "
            'log-odds from before a sigmoid that rounded them, take method="isotonic", or for a reward that only knows '
            "0 and 1 state its error rates: reward.with_error(false_accept, false_reject)."
        )
    return _FITS[method](scores, accepted)


def _platt(scores: Floats, accepted: NDArray[np.bool_]) -> PlattScaling:
    slope, intercept = _logistic([scores, np.ones_like(scores)], accepted, [-np.inf, -np.inf])
    return PlattScaling(slope=slope, intercept=intercept)


def _temperature(scores: Floats, accepted: NDArray[np.bool_]) -> TemperatureScaling:
    (inverse,) = _logistic([scores], accepted, [0.0])
    if inverse * np.abs(scores).max() < 1e-6:
        raise _ranks_no_better_than_chance("No temperature calibrates", "temperature is infinite")
    return TemperatureScaling(temperature=1 / inverse)


def _beta(scores: Floats, accepted: NDArray[np.bool_]) -> BetaCalibration:
    log_accepted, log_rejected = -np.logaddexp(0, -scores), -np.logaddexp(0, scores)
    a, b, c = _logistic([log_accepted, -log_rejected, np.ones_like(scores)], accepted, [0.0, 0.0, -np.inf])
    if max(a, b) * np.abs(scores).max() < 1e-6:
        raise _ranks_no_better_than_chance("No beta calibration improves", "slopes are both 0")
    return BetaCalibration(a=a, b=b, c=c)


def _isotonic(scores: Floats, accepted: NDArray[np.bool_]) -> IsotonicCalibration:
    from scipy.optimize import isotonic_regression

    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    shares = np.bincount(places, weights=accepted) / counts
    fit = isotonic_regression([0.5, *shares, 0.5], weights=[2.0, *counts, 2.0])
    # The first and last steps hold what was added; they are steps of their own only if no score joined them.
    steps = fit.x[1:-1]
    starts = np.flatnonzero(np.diff(steps, prepend=-1.0) > 0)
    if len(starts) == 1:
        raise _ranks_no_better_than_chance("No isotonic calibration improves", "function that never falls is constant")
    log_odds = np.log(steps[starts]) - np.log1p(-steps[starts])
    return IsotonicCalibration(thresholds=tuple(values[starts[1:]].tolist()), log_odds=tuple(log_odds.tolist()))


def _ranks_no_better_than_chance(what: str, likeliest: str) -> CalibrationError:
    return CalibrationError(
        f"{what} these scores: they are no higher where the label is 1, so that the likeliest {likeliest}, and "
        'every text would be judged alike. Take method="platt", whose slope may be negative, and look at the AUC.'
    )


def _logistic(features: Sequence[Floats], accepted: NDArray[np.bool_], lower: Sequence[float]) -> list[float]:
    """Coefficients of a logistic regression on smoothed labels, no less than their bounds.

    The negative log-likelihood is convex, and both its classes bound it from below in every direction.
    """
    from scipy.optimize import minimize

    scales = np.array([np.abs(feature).max() or 1.0 for feature in features])
    design = np.stack(features, -1) / scales
    rejected, right = (~accepted).sum(), accepted.sum()
    targets = np.where(accepted, (right + 1) / (right + 2), 1 / (rejected + 2))

    def loss(coefficients: Floats) -> tuple[float, Floats]:
        log_odds = design @ coefficients
        residual = np.exp(-np.logaddexp(0, -log_odds)) - targets
        return float(np.mean(np.logaddexp(0, log_odds) - targets * log_odds)), design.T @ residual / len(targets)

    bounds = [(low if np.isfinite(low) else None, None) for low in lower]
    start = np.zeros(len(features))
    fit = minimize(
        loss,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 10000},
    )
    return [float(value) for value in fit.x / scales]


_FITS: dict[str, Callable[[Floats, NDArray[np.bool_]], Calibration]] = {
    "platt": _platt,
    "temperature": _temperature,
    "beta": _beta,
    "isotonic": _isotonic,
}
