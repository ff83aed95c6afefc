"""What a calibration changes: measures before and after, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyro_llm.diagnostics.calibration import auc, brier_score, expected_calibration_error
from pyro_llm.errors import CalibrationError
from pyro_llm.labelled_scores import Floats, labelled_scores


class Interval(NamedTuple):
    """A figure with its 95 percent interval."""

    value: float
    low: float
    high: float


class Change(NamedTuple):
    """A measure before and after, and the difference, after less before."""

    before: Interval
    after: Interval
    difference: Interval


def _of_equal_mass(values: Floats, labels: Floats) -> float:
    return expected_calibration_error(values, labels, binning="equal-mass")


MEASURES: dict[str, Callable[[Floats, Floats], float]] = {
    "expected calibration error": expected_calibration_error,
    "the same, bins of equal mass": _of_equal_mass,
    "Brier score": brier_score,
    "area under the curve": auc,
}


def calibration_change(
    before: ArrayLike,
    after: ArrayLike,
    labels: ArrayLike,
    *,
    groups: Any = None,
    repeats: int = 1000,
    seed: int = 0,
) -> dict[str, Change]:
    """Each measure of probabilities before and after a calibration, on rows that it was not fitted on.

    Args:
        before: probabilities of acceptance. One-dimensional.
        after: of the same rows.
        labels: 0 or 1 for each.
        groups: a number for each row; rows of one group are drawn together. By default each row for itself.
        repeats: of the bootstrap over groups; intervals are its percentiles, those of the difference paired. Draws in
            which labels are of one class are left out.
        seed: of the bootstrap.

    Raises:
        CalibrationError: there are not as many of all, or labels are of one class only.

    Example:
        >>> change = calibration_change([0.99, 0.01] * 50, [0.8, 0.2] * 50, [1, 0, 1, 0, 1, 0, 1, 0, 0, 1] * 10)
        >>> {name: round(of.difference.value, 2) for name, of in change.items()}["Brier score"]
        -0.04
    """
    values, outcomes = labelled_scores(before, labels)
    others, _ = labelled_scores(after, labels)
    group = np.arange(values.size) if groups is None else np.asarray(groups)
    if group.shape != values.shape:
        raise CalibrationError(f"groups has shape {group.shape} for {values.size} rows; give a number for each row.")
    members = _members(np.unique(group, return_inverse=True)[1])
    rng = np.random.default_rng(seed)
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in MEASURES}
    for _ in range(repeats):
        rows = np.concatenate([members[one] for one in rng.integers(len(members), size=len(members))])
        drawn = outcomes[rows]
        if drawn.min() == drawn.max():
            continue
        for name, measure in MEASURES.items():
            samples[name].append((measure(values[rows], drawn), measure(others[rows], drawn)))
    return {
        name: _change(measure(values, outcomes), measure(others, outcomes), np.array(samples[name]))
        for name, measure in MEASURES.items()
    }


def _members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The rows of each group."""
    return np.split(np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))[:-1])


def _change(before: float, after: float, drawn: Floats) -> Change:
    columns = [(before, drawn[:, 0]), (after, drawn[:, 1]), (after - before, drawn[:, 1] - drawn[:, 0])]
    return Change(*(Interval(value, *np.quantile(draws, (0.025, 0.975)).tolist()) for value, draws in columns))
