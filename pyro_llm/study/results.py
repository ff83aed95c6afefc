"""The rows of a study as tables of problems by budgets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyro_llm.errors import StudyFolderError
from pyro_llm.prices import Prices
from pyro_llm.study.costs import COST_KINDS, cost_of
from pyro_llm.study.rows import Row
from pyro_llm.study.runner import Study

Table = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curve:
    """One algorithm of one variant, over the budgets of one kind.

    Attributes:
        variant: its label.
        algorithm: its label.
        kind: of the budgets.
        budgets: ascending. Length K.
        right: how often each problem was answered right, over seeds. `[n, K]`.
        costs: by kind, what a problem cost, mean over seeds that did not fail; NaN where there is none. `[n, K]`.
        rows: those of each budget.
    """

    variant: str
    algorithm: str
    kind: str
    budgets: list[float]
    right: Table
    costs: dict[str, Table]
    rows: list[list[Row]] = field(repr=False)

    @property
    def accuracy(self) -> Table:
        """The mean over problems. `[K]`."""
        return self.right.mean(0)

    def mean_cost(self, kind: str) -> Table:
        """The mean over problems. `[K]`; NaN where there is none."""
        return _mean(self.costs[kind], axis=0)


@dataclass(frozen=True, eq=False)
class Results:
    """What came out of a study, on the problems that every combination has been run on.

    Attributes:
        study: it.
        problems: the ids of these problems, n of them.
        curves: by variant, algorithm and kind of budget, in the order of the configuration.
    """

    study: Study
    problems: list[str]
    curves: dict[tuple[str, str, str], Curve]

    @property
    def variants(self) -> list[str]:
        """The labels of the variants."""
        return list(dict.fromkeys(variant for variant, _, _ in self.curves))

    @property
    def reference(self) -> str:
        """The label of the algorithm that others are held against."""
        return self.study.config.reference or next(iter(self.study.config.algorithms))

    def of(self, variant: str, kind: str) -> list[Curve]:
        """The curves of a variant and a kind of budget."""
        return [curve for curve in self.curves.values() if (curve.variant, curve.kind) == (variant, kind)]


def tabulate(study: Study) -> Results:
    """The rows of a study, on the problems that every combination has been run on.

    So all comparisons are paired, however far the study has got. Runs that failed count as wrong answers.

    Raises:
        StudyFolderError: there is no such problem yet.
    """
    by_problem: dict[str, int] = defaultdict(int)
    for row in study.rows:
        by_problem[row.problem] += 1
    problems = [one.source_id for one in study.problems if by_problem[one.source_id] == len(study.cells)]
    if not problems:
        raise StudyFolderError(
            f"No problem has been run by every combination of {study.config.name!r} yet: there are {len(study.rows)} "
            f"rows of {study.size}. Run the study on."
        )
    index = {problem: position for position, problem in enumerate(problems)}
    grouped: dict[tuple[str, str, str], dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in study.rows:
        if row.problem in index:
            grouped[row.variant, row.algorithm, row.kind][row.budget].append(row)
    prices = study.config.price_table
    curves = {key: _curve(key, by_budget, index, prices) for key, by_budget in grouped.items()}
    return Results(study, problems, curves)


def _curve(
    key: tuple[str, str, str], by_budget: dict[float, list[Row]], index: dict[str, int], prices: Prices | None
) -> Curve:
    budgets = sorted(by_budget)
    rows = [by_budget[budget] for budget in budgets]
    right = np.stack([_by_problem(some, [float(row.right) for row in some], index) for some in rows], 1)
    costs = {
        kind: np.stack([_by_problem(some, [cost_of(row, kind, prices) for row in some], index) for some in rows], 1)
        for kind in COST_KINDS
    }
    return Curve(*key, budgets, right, costs, rows)


def _by_problem(rows: Sequence[Row], values: Sequence[float], index: dict[str, int]) -> Table:
    """The mean over seeds of each problem, NaN aside."""
    seen: list[list[float]] = [[] for _ in index]
    for row, value in zip(rows, values, strict=True):
        seen[index[row.problem]].append(value)
    return _mean(np.array(seen), axis=1)


def _mean(values: Table, axis: int) -> Table:
    """The mean of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
