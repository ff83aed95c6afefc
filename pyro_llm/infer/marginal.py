"""The posterior distribution of a function of the particles, and its error over runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from math import isfinite, nan, sqrt
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor

from pyro_llm.infer.options import check_integer
from pyro_llm.infer.runs import evidence_of_families, spread_is_known

LEVEL = 0.95
"""Of the intervals of probabilities."""


class Marginal(dict[Any, float]):
    """Values and their posterior probabilities, the most probable first.

    An ordinary dictionary besides. Values that no particle of positive weight takes are absent.

    Attributes:
        standard_errors: the standard error of each probability over runs; NaN for a single run, and where one run (or
            the descendants of one, if runs were exchanged) holds nearly all the evidence (see `pyro_llm.infer.runs`).
        num_runs: the runs that were pooled.

    Example:
        >>> Marginal({"85": 0.2, "95": 0.8}, standard_errors={"85": 0.01, "95": 0.01}, num_runs=4)
        Marginal({'95': 0.8 ± 0.01, '85': 0.2 ± 0.01})
    """

    def __init__(
        self, probabilities: Mapping[Hashable, float], standard_errors: Mapping[Hashable, float], num_runs: int
    ) -> None:
        ranked = sorted(probabilities.items(), key=lambda item: -item[1])
        super().__init__(ranked)
        self.standard_errors: dict[Any, float] = {value: standard_errors[value] for value, _ in ranked}
        self.num_runs = num_runs

    def most_probable(self, count: int, at_least: float = 0.0) -> list[Any]:
        """Up to `count` values of a probability of at least `at_least`; the most probable one in any case.

        Raises:
            OptionError: `count` is no integer of at least 1.
        """
        count = check_integer("count", count, at_least=1)
        values = [value for value, probability in self.items() if probability >= at_least]
        return values[:count] or list(self)[:1]

    def interval(self, value: Hashable) -> tuple[float, float] | None:
        """The 95 % interval of a value's probability by Student's t over runs, within [0, 1]; None without an error.

        >>> low, high = Marginal({"a": 1.0}, {"a": 0.01}, num_runs=3).interval("a")
        >>> round(low, 3), high  # of two degrees of freedom, 4.3 standard errors
        (0.957, 1.0)
        """
        error = self.standard_errors[value]
        if not isfinite(error) or self.num_runs < 2:
            return None
        half = float(stdtrit(self.num_runs - 1, (1 + LEVEL) / 2)) * error
        return max(0.0, self[value] - half), min(1.0, self[value] + half)

    def __repr__(self) -> str:
        items = (
            f"{value!r}: {probability:.4g}"
            + ("" if (error := self.standard_errors[value]) != error else f" ± {error:.2g}")
            for value, probability in self.items()
        )
        return f"Marginal({{{', '.join(items)}}})"


def pooled_marginal(
    values: Sequence[Sequence[Hashable]],
    log_weights: Tensor,
    log_evidence: Tensor,
    founders: NDArray[np.int64] | None = None,
    num_exchanges: int = 0,
) -> Marginal:
    """The distribution of `values` over the particles of all runs, each run weighed by its evidence.

    With Z_j the evidence of run j and p_j a value's probability in it, the estimate is the ratio
    p = Σ_j W_j p_j, W_j = Z_j / Σ Z. It is consistent, not unbiased. Its standard error is the delta method's over
    the R independent runs, Var(p) ≈ R / (R - 1) Σ_j W_j² (p_j - p)². Where one run holds nearly all the evidence
    that would be nearly zero whatever the error is, so it is NaN if `spread_is_known` says no. Of values that no run
    has met it says nothing.

    Where runs were exchanged n times, those with a common founder f depend on each other, and the estimate of Lee &
    Whiteley (2018), "Variance estimation in the particle filter", with runs as particles takes its place:
    Var(p) ≈ (R / (R - 1))^(n + 1) Σ_f (Σ_{j from f} W_j (p_j - p))².

    Args:
        values: one hashable value per particle, `[R][N]`.
        log_weights: normalised within each run, `[R, N]`.
        log_evidence: `[R]`, at least one of them finite.
        founders: the first run from which each run descends. `[R]`; by default itself.
        num_exchanges: n.
    """
    run_weights = torch.softmax(log_evidence.double(), 0).tolist()
    weights = log_weights.double().exp()
    num_runs = len(run_weights)
    by_run: list[dict[Hashable, float]] = []
    for run_values, row, run_weight in zip(values, weights.tolist(), run_weights, strict=True):
        within: dict[Hashable, float] = {}
        if run_weight > 0:
            for value, weight in zip(run_values, row, strict=True):
                if weight > 0:
                    within[value] = within.get(value, 0.0) + weight
        by_run.append(within)

    probabilities: dict[Hashable, float] = {}
    for within, run_weight in zip(by_run, run_weights, strict=True):
        for value, probability in within.items():
            probabilities[value] = probabilities.get(value, 0.0) + run_weight * probability
    standard_errors = dict.fromkeys(probabilities, nan)
    families = np.arange(num_runs) if founders is None else founders
    if spread_is_known(evidence_of_families(log_evidence, families)):
        inflation = (num_runs / (num_runs - 1)) ** (num_exchanges + 1)
        for value, pooled in probabilities.items():
            deviations = dict.fromkeys(families.tolist(), 0.0)
            for family, within, run_weight in zip(families.tolist(), by_run, run_weights, strict=True):
                deviations[family] += run_weight * (within.get(value, 0.0) - pooled)
            standard_errors[value] = sqrt(inflation * sum(deviation**2 for deviation in deviations.values()))
    return Marginal(probabilities, standard_errors, num_runs)
