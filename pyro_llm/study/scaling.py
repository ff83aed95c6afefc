"""How much less of a budget one algorithm needs than another for the same accuracy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyro_llm.errors import OptionError
from pyro_llm.study.bootstrap import RESAMPLES, resampled_means
from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.results import Curve

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Range:
    """A number that is known exactly, or to lie between two.

    Attributes:
        low: the lower bound; the number itself where the two are equal.
        high: the upper bound; infinite where nothing is known.
    """

    low: float
    high: float

    @property
    def is_exact(self) -> bool:
        """Whether it is known."""
        return self.low == self.high

    def __str__(self) -> str:
        if self.is_exact:
            return f"{self.low:.3g}"
        if self.low <= 0:
            return "unknown" if math.isinf(self.high) else f"at most {self.high:.3g}"
        return f"at least {self.low:.3g}" if math.isinf(self.high) else f"{self.low:.3g} to {self.high:.3g}"


@dataclass(frozen=True)
class ScalingRate:
    """Budgets of two algorithms at equal accuracy.

    Attributes:
        algorithm: the label of the one.
        reference: the label of the other.
        kind: of the budgets that are compared.
        accuracy: at which.
        budget: what the algorithm needs for it.
        reference_budget: what the reference needs for it.
        ratio: the reference's budget over the algorithm's: 4 means that a quarter is enough.
        interval: of the ratio, over problems. Infinite above, or 0 below, where samples do not reach the accuracy.
        not_reached: the share of bootstrap samples in which the algorithm does not reach it with any of its budgets.
        agreed: the number of problems, if both are right on the same ones with these budgets, so that resampling tells
            nothing of their difference, and the interval nothing of the ratio; else 0.
        reference_least: the smallest budget with which the reference is right as often, if that is less than
            `reference_budget`: its accuracy has fallen since; else None.
    """

    algorithm: str
    reference: str
    kind: str
    accuracy: float
    budget: Range
    reference_budget: Range
    ratio: Range
    interval: Range
    not_reached: float
    agreed: int = 0
    reference_least: Range | None = None

    def __str__(self) -> str:
        if self.agreed:
            return f"{self.ratio} [no interval]"
        high = "∞" if math.isinf(self.interval.high) else f"{self.interval.high:.3g}"
        return f"{self.ratio} [{self.interval.low:.3g}, {high}]"


def budget_at(budgets: Sequence[float], accuracies: Sequence[float], accuracy: float) -> Range:
    """The smallest budget whose accuracy is that.

    The curve is the highest accuracy to be had for at most a budget (the running maximum: nobody has to spend all of
    it), interpolated in the logarithm of the budget. A curve that does not get there says that more than its last
    budget is needed; one that begins there or above, at most its first.

    Args:
        budgets: ascending, above 0.
        accuracies: measured, one for each.
        accuracy: asked for.

    Examples:
        >>> print(budget_at([1, 4, 16], [0.2, 0.4, 0.6], 0.5), budget_at([1, 4], [0.2, 0.4], 0.5))
        8 at least 4
        >>> print(budget_at([4, 16, 64], [0.625, 0.333, 0.292], 0.542))
        at most 4
    """
    best = np.maximum.accumulate(np.asarray(accuracies, dtype=np.float64))
    if accuracy > best[-1] + _ROUNDING:
        return Range(float(budgets[-1]), math.inf)
    upper = int(np.argmax(best >= accuracy - _ROUNDING))
    if upper == 0:
        return Range(0.0, float(budgets[0]))
    share = min(1.0, (accuracy - best[upper - 1]) / (best[upper] - best[upper - 1]))
    low, high = math.log(budgets[upper - 1]), math.log(budgets[upper])
    exact = float(budgets[upper]) if share == 1.0 else math.exp(low + share * (high - low))
    return Range(exact, exact)


def scaling_rate(
    curve: Curve,
    reference: Curve,
    *,
    cost: str = "generations",
    at_budget: float | None = None,
    accuracy: float | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> ScalingRate:
    """How many times the budget of an algorithm the reference needs for the same accuracy.

    The interval is the percentile bootstrap over problems, paired: each sample has its own curves of both, its own
    costs, and its own accuracy unless that is given. A sample that does not reach the accuracy bounds its ratio, and
    the interval takes the bound that makes it wider.

    Args:
        curve: of the algorithm.
        reference: of the other, on the same problems.
        cost: the kind of budget in which they are compared, see `COST_KINDS`.
        at_budget: the accuracy is what the reference has with this budget of its own, which may be less than it had
            with a smaller one (`reference_least`). By default it is the highest that the reference reaches, at the
            smallest budget that is enough.
        accuracy: the accuracy itself, instead.
        level: of confidence.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        OptionError: there is no such cost, or it was not counted; the reference has no such budget; or both ways of
            giving the accuracy are used.
    """
    if cost not in COST_KINDS:
        raise OptionError(f"cost={cost!r}: choose one of {', '.join(COST_KINDS)}.")
    if at_budget is not None and accuracy is not None:
        raise OptionError("Give either at_budget or accuracy.")
    if at_budget is not None and at_budget not in reference.budgets:
        raise OptionError(f"at_budget={at_budget!r}: {reference.algorithm} has the budgets {reference.budgets}.")
    column = None if at_budget is None else reference.budgets.index(at_budget)
    size = len(curve.budgets)
    table = np.concatenate([curve.right, curve.costs[cost], reference.right, reference.costs[cost]], 1)
    spent = np.concatenate([curve.mean_cost(cost), reference.mean_cost(cost)])
    if not (spent > 0).all():  # NaN neither
        raise OptionError(f"cost={cost!r} was not counted in these results, or there was none.")
    table = np.where(np.isnan(table), np.nanmean(table, 0), table)  # what failed runs would have cost
    point = _compare(table.mean(0), size, column, accuracy)
    drawn = [_compare(means, size, column, accuracy) for means in resampled_means(table, resamples, seed)]
    tail = (1 - level) / 2
    lows, highs = [ratio.low for *_, ratio in drawn], [ratio.high for *_, ratio in drawn]
    interval = Range(
        float(np.quantile(lows, tail, method="lower")), float(np.quantile(highs, 1 - tail, method="higher"))
    )
    not_reached = float(np.mean([math.isinf(budget.high) for _, budget, _, _ in drawn]))
    agreed = len(table) if _agree(curve, reference, cost, *point[1:3]) else 0
    least = None
    if column is not None:
        order = np.argsort(reference.mean_cost(cost), kind="stable")
        least = budget_at(reference.mean_cost(cost)[order].tolist(), reference.accuracy[order].tolist(), point[0])
        least = least if least.high < point[2].low * (1 - _ROUNDING) else None
    return ScalingRate(curve.algorithm, reference.algorithm, cost, *point, interval, not_reached, agreed, least)


def _compare(
    means: NDArray[np.float64], size: int, column: int | None, accuracy: float | None
) -> tuple[float, Range, Range, Range]:
    """The accuracy, both budgets for it, and their ratio."""
    right, costs, other_right, other_costs = np.split(means, [size, 2 * size, size + len(means) // 2])
    order, other_order = np.argsort(costs, kind="stable"), np.argsort(other_costs, kind="stable")
    if accuracy is None:
        accuracy = float(other_right.max() if column is None else other_right[column])
    own = budget_at(costs[order].tolist(), right[order].tolist(), accuracy)
    if column is None:
        other = budget_at(other_costs[other_order].tolist(), other_right[other_order].tolist(), accuracy)
    else:
        other = Range(float(other_costs[column]), float(other_costs[column]))
    return accuracy, own, other, Range(_divide(other.low, own.high), _divide(other.high, own.low))


def _agree(curve: Curve, reference: Curve, cost: str, budget: Range, reference_budget: Range) -> bool:
    """Whether both are right on the same problems with the budgets that these are, or lie between."""
    if not (budget.is_exact and reference_budget.is_exact):
        return False
    return np.array_equal(_right_at(curve, cost, budget.low), _right_at(reference, cost, reference_budget.low))


def _right_at(curve: Curve, cost: str, budget: float) -> NDArray[np.float64]:
    """How often each problem was right with a budget, or with the two that `budget_at` interpolates. `[n, 1 or 2]`."""
    spent = curve.mean_cost(cost)
    order = np.argsort(spent, kind="stable")
    upper = min(int(np.searchsorted(spent[order], budget * (1 - _ROUNDING))), len(order) - 1)
    if math.isclose(spent[order[upper]], budget):
        return curve.right[:, order[[upper]]]
    best_below = int(np.argmax(curve.accuracy[order[:upper]]))
    return curve.right[:, order[[best_below, upper]]]


def _divide(above: float, below: float) -> float:
    if math.isinf(below):
        return 0.0
    return math.inf if below == 0 else above / below
