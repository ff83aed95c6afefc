"""What a study's answers are worth in money: from accuracy and cost to return."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pyro_llm.errors import OptionError
from pyro_llm.prices import Prices
from pyro_llm.study.bootstrap import Estimate, mean_interval
from pyro_llm.study.costs import cost_of
from pyro_llm.study.results import Curve, Table
from pyro_llm.study.rows import Row


@dataclass(frozen=True)
class Terms:
    """What answers are worth, and what they cost, in dollars.

    An answer is *withheld* where there is none, or where the algorithm gives it a probability below `threshold`. It
    goes to a person then, who costs `person_cost` and is taken to be right. An algorithm that gives no probabilities
    withholds nothing but missing answers.

    Args:
        right_value: of a right answer.
        wrong_cost: what a wrong answer costs beyond the value that it does not have.
        price: of a million tokens, those of the language model and those of the reward alike.
        person_cost: of an answer by a person.
        threshold: the probability below which an answer is withheld.
        length: how many times as many tokens a question takes as one of the study.

    Raises:
        OptionError: one of them is negative or no finite number, or the threshold is above 1.
    """

    right_value: float = 1.0
    wrong_cost: float = 1.0
    price: float = 0.4
    person_cost: float = 1.0
    threshold: float = 0.0
    length: float = 1.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise OptionError(f"{name}={value!r}: give a finite number that is not negative.")
        if self.threshold > 1:
            raise OptionError(f"threshold={self.threshold!r}: give a probability.")

    @property
    def by_hand(self) -> float:
        """The return of a question that goes to a person at once."""
        return self.right_value - self.person_cost


@dataclass(frozen=True)
class Return:
    """What one algorithm with one budget brings, a question.

    Attributes:
        algorithm: its label.
        budget: its size.
        right: share of questions that it answers rightly.
        wrong: share of questions that it answers wrongly.
        withheld: share of questions that go to a person.
        cost: dollars for tokens.
        value: dollars that are left, with its interval over problems.
        gain: value less that of the smallest budget, paired by problem; None for that one itself.
    """

    algorithm: str
    budget: float
    right: float
    wrong: float
    withheld: float
    cost: float
    value: Estimate
    gain: Estimate | None


def returns(curve: Curve, terms: Terms, level: float = 0.95) -> list[Return]:
    """The return at each budget of a curve, in ascending order.

    Args:
        curve: of one algorithm, see `Results.curves`.
        terms: values and prices.
        level: of the intervals.

    Example:
        >>> from pyro_llm.study.rows import Row
        >>> cost = {"lm_tokens_forwarded": 900_000, "lm_tokens_sampled": 0, "reward_tokens": 100_000}
        >>> def row(problem, right, probability):
        ...     answer = {"decision": "7", "right": right, "probability": probability, "cost": cost}
        ...     cell = {"key": "", "variant": "", "algorithm": "PF", "kind": "generations", "budget": 8, "seed": 0}
        ...     return Row(problem=problem, **cell, **answer)
        >>> rows = [row("a", True, 0.9), row("b", True, 0.8), row("c", False, 0.7), row("d", False, 0.2)]
        >>> curve = Curve("", "PF", "generations", [8.0], np.array([[1.0], [1.0], [0.0], [0.0]]), {}, [rows])
        >>> [line] = returns(curve, Terms(right_value=1, wrong_cost=2, price=0.1, person_cost=0.5, threshold=0.5))
        >>> (line.right, line.wrong, line.withheld, round(line.cost, 6))
        (0.5, 0.25, 0.25, 0.1)
        >>> round(line.value.value, 6)  # (1 + 1 - 2 + (1 - 0.5)) / 4 - 0.1
        0.025
    """
    limits = _bounds(terms)
    found: list[Return] = []
    values: list[Table] = []
    for budget, rows in zip(curve.budgets, curve.rows, strict=True):
        shares, costs = _by_problem(rows, terms)
        right, wrong, withheld = shares.mean(0).tolist()
        earned = shares @ [terms.right_value, -terms.wrong_cost, terms.by_hand]
        values.append(earned - costs)
        low, high = limits[0] - costs.max(), limits[1]
        gain = None
        if found:
            gain = mean_interval(values[-1] - values[0], low - high, high - low, level)
        value = mean_interval(values[-1], low, high, level)
        found.append(Return(curve.algorithm, budget, right, wrong, withheld, float(costs.mean()), value, gain))
    return found


def best_return(lines: Sequence[Return]) -> Return:
    """The one of the highest value; of equal ones the cheapest."""
    return max(lines, key=lambda line: (line.value.value, -line.cost))


def first_that_pays(lines: Sequence[Return]) -> Return | None:
    """The smallest budget that brings more than the smallest of all, the whole interval of the gain being above 0."""
    return next((line for line in lines if line.gain is not None and line.gain.low > 0), None)


def _bounds(terms: Terms) -> tuple[float, float]:
    outcomes = (terms.right_value, -terms.wrong_cost, terms.by_hand)
    return min(outcomes), max(outcomes)


def _by_problem(rows: Sequence[Row], terms: Terms) -> tuple[Table, Table]:
    """By problem, ordered by id: shares of right, wrong and withheld answers `[n, 3]`, and dollars `[n]`."""
    prices = Prices(lm_input=1.0, lm_output=1.0, reward_input=1.0)
    outcomes: dict[str, list[list[float]]] = defaultdict(list)
    dollars: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        withheld = row.decision is None or (row.probability is not None and row.probability < terms.threshold)
        outcomes[row.problem].append([row.right and not withheld, not row.right and not withheld, withheld])
        dollars[row.problem].append(cost_of(row, "dollars", prices) * terms.price * terms.length)
    problems = sorted(outcomes)
    shares = np.array([np.mean(outcomes[problem], 0) for problem in problems], dtype=np.float64)
    costs = np.array([np.mean(dollars[problem]) for problem in problems])
    known = ~np.isnan(costs)
    return shares, np.where(known, costs, costs[known].mean() if known.any() else 0.0)  # of runs that failed: the mean
