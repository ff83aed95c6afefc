"""Calibrated scores of rows that the calibration was not fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pyro_llm.errors import CalibrationError, OptionError
from pyro_llm.labelled_scores import Floats, labelled_scores
from pyro_llm.rewards.calibration.fit import CalibrationMethod, fit_calibration


def held_out_log_odds(
    log_odds: Tensor | ArrayLike,
    labels: Tensor | ArrayLike,
    method: CalibrationMethod = "platt",
    *,
    groups: Any = None,
    folds: int = 5,
    seed: int = 0,
) -> Floats:
    """Each row's score, calibrated by the fit on the folds that it is not in.

    Args:
        log_odds: scores, as log-odds. One-dimensional.
        labels: 0 or 1 for each.
        method: as of `fit_calibration`.
        groups: a number for each row, 0, 1, ...; rows of one group (the steps of one problem, say) are never parted.
            By default each row is a group of its own.
        folds: how many; groups of like shares of accepted labels are spread over them evenly.
        seed: of the order in which groups of equal share are dealt.

    Returns:
        Calibrated log-odds, in the order of the rows.

    Raises:
        CalibrationError: as of `fit_calibration`; there are fewer groups than folds, or without some fold labels are
            of one class only.
        OptionError: there are fewer than two folds.

    Example:
        >>> scores, labels = [-4.0, 4.0] * 300, [0, 1, 0, 1, 0, 1, 0, 1, 1, 0] * 60
        >>> held_out_log_odds(scores, labels, "temperature")[:2].round()
        array([-1.,  1.])
    """
    scores, accepted = labelled_scores(log_odds, labels)
    if folds < 2:
        raise OptionError(f"folds={folds!r}: give at least 2.")
    group = np.arange(scores.size) if groups is None else np.asarray(groups)
    if group.shape != scores.shape:
        raise CalibrationError(f"groups has shape {group.shape} for {scores.size} rows; give a number for each row.")
    fold = _folds(np.unique(group, return_inverse=True)[1], accepted, folds, np.random.default_rng(seed))
    calibrated = np.empty(scores.size)
    for held_out in range(folds):
        rows = fold == held_out
        try:
            calibration = fit_calibration(scores[~rows], accepted[~rows], method)
        except CalibrationError as error:
            raise CalibrationError(f"Without fold {held_out + 1} of {folds} there is no fit: {error}") from error
        calibrated[rows] = calibration(torch.tensor(scores[rows])).numpy()
    return calibrated


def _folds(groups: NDArray[np.int64], labels: Floats, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The fold of each row; groups of like shares of accepted labels are spread evenly."""
    count = int(groups.max()) + 1
    if count < folds:
        raise CalibrationError(
            f"There are {count} rows or groups for {folds} folds; give more of them, or fewer folds."
        )
    share = np.bincount(groups, weights=labels) / np.bincount(groups)
    order = np.lexsort((rng.random(count), share))
    of_group = np.empty(count, dtype=np.int64)
    of_group[order] = np.arange(count) % folds
    return of_group[groups]
