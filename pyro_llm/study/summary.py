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
        variant_difference: accuracy less that of the same algorithm and budget in the reference variant, paired by
            problem on those that both variants have; None for the reference variant itself, and where there is none.
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
    variant_difference: Estimate | None
    costs: dict[str, float]
    probability: float | None
    ess: float | None
    failed: int
    stopped: dict[str, int]


def summarise(results: Results, level: float = 0.95) -> list[Line]:
    """The lines of a study, in the order of its configuration."""
    lines = []
    for (variant, algorithm, kind), curve in results.curves.items():
        reference = results.curves.get((variant, results.reference, kind))
        twin = results.curves.get((results.reference_variant, algorithm, kind))
        for column in range(len(curve.budgets)):
            difference, variant_difference = (
                _difference(results, curve, column, other, level) for other in (reference, twin)
            )
            lines.append(_line(curve, column, difference, variant_difference, level))
    return lines


def _difference(results: Results, curve: Curve, column: int, reference: Curve | None, level: float) -> Estimate | None:
    """The accuracy with one budget less that of another curve, on the problems that both have."""
    budget = curve.budgets[column]
    if reference is None or reference is curve or budget not in reference.budgets:
        return None
    theirs = reference.right[:, reference.budgets.index(budget)].tolist()
    others = dict(zip(results.problems_of[reference.variant], theirs, strict=True))
    own = zip(results.problems_of[curve.variant], curve.right[:, column].tolist(), strict=True)
    paired = [right - others[problem] for problem, right in own if problem in others]
    return mean_interval(paired, -1.0, 1.0, level) if paired else None


def _line(
    curve: Curve, column: int, difference: Estimate | None, variant_difference: Estimate | None, level: float
) -> Line:
    budget, rows = curve.budgets[column], curve.rows[column]
    return Line(
        curve.variant,
        curve.algorithm,
        curve.kind,
        budget,
        mean_interval(curve.right[:, column], 0.0, 1.0, level),
        difference,
        variant_difference,
        {kind: float(curve.mean_cost(kind)[column]) for kind in COST_KINDS},
        _mean_of(rows, "probability"),
        _mean_of(rows, "ess"),
        sum(row.error is not None for row in rows),
        dict(Counter(row.stopped_by for row in rows if row.stopped_by is not None)),
    )


def _mean_of(rows: Sequence[Row], name: str) -> float | None:
    values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
    return float(np.mean(values)) if values else None
