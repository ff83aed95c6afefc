"""The rows of a study as tables of problems by budgets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pyro_llm.errors import StudyConfigError, StudyFolderError
from pyro_llm.prices import Prices
from pyro_llm.study.advice import unknown
from pyro_llm.study.costs import COST_KINDS, cost_of
from pyro_llm.study.rows import Row
from pyro_llm.study.runner import Study
from pyro_llm.study.variants import WHOLE
from pyro_llm.study.words import counted

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
    """What came out of a study: of each variant, on the problems that all its combinations have been run on.

    Attributes:
        study: it.
        problems_of: by variant, the ids of these problems; none of a variant that has not got so far, and no curves.
        curves: by variant, algorithm and kind of budget, in the order of the configuration.
        reference: the label of the algorithm that others are held against.
    """

    study: Study
    problems_of: dict[str, list[str]]
    curves: dict[tuple[str, str, str], Curve]
    reference: str

    @property
    def problems(self) -> list[str]:
        """The ids of the problems that count in any variant."""
        found = {problem for problems in self.problems_of.values() for problem in problems}
        return [one.source_id for one in self.study.problems if one.source_id in found]

    @property
    def is_complete(self) -> bool:
        """Whether every variant has all problems."""
        return all(len(problems) == len(self.study.problems) for problems in self.problems_of.values())

    @property
    def extent(self) -> str:
        """How many of the problems count, in the variants that are shown."""
        numbers = [len(problems) for problems in self.problems_of.values() if problems]
        fewest, most, whole = min(numbers), max(numbers), len(self.study.problems)
        done = counted(fewest, "problems") if fewest == most else f"{fewest} to {counted(most, 'problems')}"
        return done if fewest == whole else f"{done} of {whole}"

    @property
    def gaps(self) -> list[str]:
        """What is missing of an incomplete study, in sentences."""
        shown = {variant: len(problems) for variant, problems in self.problems_of.items() if problems}
        told = []
        if len(set(shown.values())) > 1:
            numbers = ", ".join(f"{variant} {number}" for variant, number in shown.items())
            told.append(
                f"The variants have got to different numbers of problems: {numbers}; a difference between two variants "
                "is on the problems that both have."
            )
        for variant, problems in self.problems_of.items():
            if not problems:
                told.append(
                    f"{variant} is left out: no problem has been run by all its combinations yet "
                    f"({_rows_so_far(self.study, variant)})."
                )
        if told and self.study.command is not None:
            told.append(f"To go on with the study: {self.study.command}")
        return told

    @property
    def variants(self) -> list[str]:
        """The labels of the variants."""
        return list(dict.fromkeys(variant for variant, _, _ in self.curves))

    @property
    def reference_variant(self) -> str:
        """The label of the variant that others are held against."""
        return self.study.config.reference_variant or next(iter(self.study.config.variants), WHOLE)

    def of(self, variant: str, kind: str) -> list[Curve]:
        """The curves of a variant and a kind of budget."""
        return [curve for curve in self.curves.values() if (curve.variant, curve.kind) == (variant, kind)]


def tabulate(study: Study, reference: str | None = None) -> Results:
    """The rows of a study, of each variant on the problems that all its combinations have been run on.

    So all comparisons within a variant are paired, however far the study has got. Runs that failed count as wrong
    answers.

    Args:
        study: with its rows.
        reference: the label of the algorithm that others are held against; None: that of the configuration.

    Raises:
        StudyFolderError: there is no such problem in any variant yet.
        StudyConfigError: there is no such algorithm.
    """
    algorithms = study.config.algorithms
    if reference is not None and reference not in algorithms:
        raise StudyConfigError(f"reference: {unknown('algorithm', reference, algorithms)}")
    reference = reference or study.config.reference or next(iter(algorithms))
    cells = Counter(cell.variant for cell in study.cells)
    done = Counter((row.variant, row.problem) for row in study.rows)
    problems_of = {
        variant: [one.source_id for one in study.problems if done[variant, one.source_id] == number]
        for variant, number in cells.items()
    }
    if not any(problems_of.values()):
        command = "the same command goes on" if study.command is None else f"to go on: {study.command}"
        raise StudyFolderError(
            f"There is no table of {study.config.name!r} yet: no problem has been run by every combination, and "
            f"there are only {_rows_so_far(study)}; {command}"
        )
    indices = {variant: {name: place for place, name in enumerate(ids)} for variant, ids in problems_of.items()}
    grouped: dict[tuple[str, str, str], dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in study.rows:
        if row.problem in indices[row.variant]:
            grouped[row.variant, row.algorithm, row.kind][row.budget].append(row)
    prices = study.config.price_table
    curves = {key: _curve(key, by_budget, indices[key[0]], prices) for key, by_budget in grouped.items()}
    return Results(study, problems_of, curves, reference)


def _rows_so_far(study: Study, variant: str | None = None) -> str:
    """How many rows there are, and by algorithm."""
    cells = [cell for cell in study.cells if variant in (None, cell.variant)]
    rows = [row for row in study.rows if variant in (None, row.variant)]
    made = Counter(row.algorithm for row in rows)
    wanted = Counter(
        {name: number * len(study.problems) for name, number in Counter(c.algorithm for c in cells).items()}
    )
    each = ", ".join(f"{name} {made[name]} of {number}" for name, number in wanted.items())
    return f"{counted(len(rows), 'rows')} of {len(cells) * len(study.problems)}: {each}"


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
