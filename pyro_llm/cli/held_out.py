"""What a calibration changes on rows that it was not fitted on."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_llm.cli.labels import LabelledScores
from pyro_llm.diagnostics.calibration import auc, brier_score, expected_calibration_error
from pyro_llm.errors import CalibrationError
from pyro_llm.rewards import fit_calibration
from pyro_llm.rewards.calibration import CalibrationMethod

Floats = NDArray[np.float64]
REPEATS = 1000

MEASURES: dict[str, Callable[[Floats, NDArray[np.int64]], float]] = {
    "expected calibration error": expected_calibration_error,
    "the same, bins of equal mass": lambda values, labels: expected_calibration_error(
        values, labels, binning="equal-mass"
    ),
    "Brier score": brier_score,
    "area under the curve": auc,
}


class Interval(NamedTuple):
    """A figure with its 95 percent interval."""

    value: float
    low: float
    high: float


def held_out_probabilities(scores: LabelledScores, method: CalibrationMethod, folds: int, seed: int) -> Floats:
    """Calibrated probabilities of each row, by the fit on the folds that it is not in. Groups are never parted.

    Raises:
        CalibrationError: there are fewer groups than folds, or without some fold labels are of one class only.
    """
    fold = _folds(scores, folds, np.random.default_rng(seed))
    probabilities = np.empty(scores.labels.size)
    for held_out in range(folds):
        rows = fold == held_out
        try:
            calibration = fit_calibration(scores.log_odds[~rows], scores.labels[~rows], method)
        except CalibrationError as error:
            raise CalibrationError(f"Without fold {held_out + 1} of {folds} there is no fit: {error}") from error
        probabilities[rows] = calibration(torch.tensor(scores.log_odds[rows])).sigmoid().numpy()
    return probabilities


def _folds(scores: LabelledScores, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each row; groups of like shares of accepted labels are spread evenly."""
    count = int(scores.groups.max()) + 1
    if count < folds:
        raise CalibrationError(
            f"There are {count} rows or groups for {folds} folds; give more of them, or fewer folds."
        )
    sizes = np.bincount(scores.groups)
    share = np.bincount(scores.groups, weights=scores.labels) / sizes
    order = np.lexsort((rng.random(count), share))
    of_group = np.empty(count, dtype=np.int64)
    of_group[order] = np.arange(count) % folds
    return of_group[scores.groups]


def compare(before: Floats, after: Floats, scores: LabelledScores, seed: int) -> dict[str, list[Interval]]:
    """Each measure before, after, and the difference, with percentile intervals of a bootstrap over groups."""
    rng = np.random.default_rng(seed + 1)
    order = np.argsort(scores.groups, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(scores.groups))[:-1])
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in MEASURES}
    for _ in range(REPEATS):
        rows = np.concatenate([members[group] for group in rng.integers(len(members), size=len(members))])
        labels = scores.labels[rows]
        if labels.min() == labels.max():
            continue
        for name, measure in MEASURES.items():
            samples[name].append((measure(before[rows], labels), measure(after[rows], labels)))
    table = {}
    for name, measure in MEASURES.items():
        one, other = measure(before, scores.labels), measure(after, scores.labels)
        drawn = np.array(samples[name])
        columns = [(one, drawn[:, 0]), (other, drawn[:, 1]), (other - one, drawn[:, 1] - drawn[:, 0])]
        table[name] = [Interval(value, *np.quantile(draws, (0.025, 0.975)).tolist()) for value, draws in columns]
    return table
