"""The table of a study: accuracy with intervals, differences from a reference, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyro_llm.study.bootstrap import Estimate, mean_interval
from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.results import Curve, Results
from pyro_llm.study.rows import Row


@dataclass(frozen=True)
class Line:
    """One algorithm with one budget.

    Attributes:
        variant: its label.
        algorithm: its label.
        kind: of the budget.
        budget: its size.
        accuracy: share of right answers, with its interval over problems.
        difference: accuracy less that of the reference with the same budget, paired by problem; None for the reference
            itself, and where it has no such budget.
        costs: mean by kind, of a problem; NaN where not counted.
        probability: mean probability of the decision, over runs that give one; None if none does.
        ess: mean effective sample size, likewise.
        failed: runs that failed; they count as wrong.
        stopped: how many runs each item of a budget has ended.
    """

    variant: str
    algorithm: str
    kind: str
    budget: float
    accuracy: Estimate
    difference: Estimate | None
    costs: dict[str, float]
    probability: float | None
    ess: float | None
    failed: int
    stopped: dict[str, int]


def summarise(results: Results, level: float = 0.95) -> list[Line]:
    """The lines of a study, in the order of its configuration."""
    lines = []
    for (variant, _, kind), curve in results.curves.items():
        reference = results.curves.get((variant, results.reference, kind))
        for column in range(len(curve.budgets)):
            lines.append(_line(curve, column, reference, level))
    return lines


def _line(curve: Curve, column: int, reference: Curve | None, level: float) -> Line:
    budget, rows = curve.budgets[column], curve.rows[column]
    difference = None
    if reference is not None and reference is not curve and budget in reference.budgets:
        others = reference.right[:, reference.budgets.index(budget)]
        difference = mean_interval(curve.right[:, column] - others, -1.0, 1.0, level)
    return Line(
        curve.variant,
        curve.algorithm,
        curve.kind,
        budget,
        mean_interval(curve.right[:, column], 0.0, 1.0, level),
        difference,
        {kind: float(curve.mean_cost(kind)[column]) for kind in COST_KINDS},
        _mean_of(rows, "probability"),
        _mean_of(rows, "ess"),
        sum(row.error is not None for row in rows),
        dict(Counter(row.stopped_by for row in rows if row.stopped_by is not None)),
    )


def _mean_of(rows: Sequence[Row], name: str) -> float | None:
    values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
    return float(np.mean(values)) if values else None
