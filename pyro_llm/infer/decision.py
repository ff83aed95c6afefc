"""The one value that an algorithm would give."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import numpy as np

from pyro_llm.infer.particle_values import values_of

if TYPE_CHECKING:
    from pyro_llm.infer.posterior import Posterior


def decide(posterior: Posterior, fn: Callable[[Any], Hashable] | None) -> Any:
    """The first value of the tally that is an answer; see `Posterior.decision`."""
    tally = posterior.marginal(fn) if posterior.searched is None else tally_of_search(posterior, fn)
    return next((value for value in tally if value is not None), None)


def tally_of_search(posterior: Posterior, fn: Callable[[Any], Hashable] | None = None) -> dict[Any, float]:
    """What the particles of a search with each value come to by its rule, the best first, equals as they were met.

    Args:
        posterior: of a search.
        fn: as in `Posterior.marginal`.

    Returns:
        By value the logarithm of the highest score, of the sum of the scores, or of the share of the votes.
    """
    searched = posterior.searched
    assert searched is not None
    values = [value for row in values_of(posterior, fn) for value in row]
    tally: dict[Any, float] = {}
    if searched.decides_by == "votes":
        tally = {value: math.log(count / len(values)) for value, count in Counter(values).items()}
    else:
        join = max if searched.decides_by == "highest score" else np.logaddexp
        for value, log_score in zip(values, posterior.scores.flatten().tolist(), strict=True):
            tally[value] = float(join(tally.get(value, -math.inf), log_score))
    return dict(sorted(tally.items(), key=lambda item: -item[1]))
