"""How much each of several independent runs has to say, and whether they say enough for an error bar."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_llm.ops.weights import effective_sample_size

MIN_EFFECTIVE_RUNS = 1.5
"""Fewer effective runs than this have no spread to tell an error by."""


def effective_runs(log_evidence: Tensor) -> float:
    r"""The number of equally weighted runs that would be worth as much, $1 / \sum_j W_j^2$, $W_j = Z_j / \sum_k Z_k$.

    Estimates pooled by evidence weigh the runs by $W$. Kish's formula, as for the particles within a run: R where all
    have the same evidence, 1 where one has all of it, 0 where none has any.

    Args:
        log_evidence: by run, `[R]`.

    Example:
        >>> import torch
        >>> round(effective_runs(torch.tensor([0.2, 0.8]).log()), 3)
        1.471
    """
    return float(effective_sample_size(log_evidence))


def spread_is_known(log_evidence: Tensor) -> bool:
    """Whether the spread over runs gives a standard error: there are `MIN_EFFECTIVE_RUNS` effective runs at least.

    A standard error by the delta method is a sum over runs of the squared deviation from the pooled estimate. That of
    a run which holds nearly all the evidence is zero by construction, and says nothing.
    """
    return effective_runs(log_evidence) >= MIN_EFFECTIVE_RUNS


def evidence_of_families(log_evidence: Tensor, founders: NDArray[np.int64]) -> Tensor:
    """Log of the evidence of all runs that descend from the same one: these are no more independent than one run is.

    Args:
        log_evidence: by run, `[R]`.
        founders: the first run from which each run descends; itself unless runs were exchanged. `[R]`.

    Returns:
        By family, of those that are left. `[F]`.

    Example:
        >>> evidence_of_families(torch.tensor([0.25, 0.25, 0.5]).log(), np.array([2, 2, 0])).exp()
        tensor([0.5000, 0.5000])
    """
    return torch.stack([log_evidence[founders == family].logsumexp(0) for family in np.unique(founders)])
