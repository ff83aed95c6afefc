"""Scores and what came of them, as arrays that fit each other."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_llm.errors import CalibrationError

Floats = NDArray[np.float64]


def labelled_scores(scores: Any, labels: Any) -> tuple[Floats, Floats]:
    """Scores and labels, 0 or 1, as arrays of one length; tensors, arrays or lists.

    Raises:
        CalibrationError: they are no numbers, not one-dimensional, or not of one length; a score is NaN; a label is
            neither 0 nor 1; or there are none.

    Example:
        >>> labelled_scores([0.2, 0.9], [False, True])
        (array([0.2, 0.9]), array([0., 1.]))
    """
    values, outcomes = _array("scores", scores), _array("labels", labels)
    if values.shape != outcomes.shape:
        raise CalibrationError(f"There are {values.size} scores and {outcomes.size} labels; give one label for each.")
    if not values.size:
        raise CalibrationError("There are no labels.")
    if np.isnan(values).any():
        raise CalibrationError(f"The score at index {int(np.isnan(values).argmax())} is NaN.")
    wrong = (outcomes != 0) & (outcomes != 1)
    if wrong.any():
        place = int(wrong.argmax())
        raise CalibrationError(
            f"The label at index {place} is {outcomes[place]}; a label is 0 (rejected) or 1 (accepted)."
        )
    return values, outcomes


def _array(name: str, values: Any) -> Floats:
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"The {name} are no numbers: {error}.") from error
    if array.ndim != 1:
        raise CalibrationError(f"The {name} have shape {array.shape}; give one dimension.")
    return array
