"""The plain comparison of answers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from pyro_llm.study.problem import Problem


def same_answer(left: str, right: str) -> bool:
    """Whether two answers agree, as texts or as numbers.

    >>> same_answer("1,000", "1000.0")
    True
    """
    left, right = left.strip(), right.strip()
    try:
        return left == right or Decimal(left.replace(",", "")) == Decimal(right.replace(",", ""))
    except InvalidOperation:
        return False


class SameAnswer:
    """Grades by `same_answer`; no answer is wrong."""

    def grade(self, decision: str | None, problem: Problem) -> bool:
        """Whether the decision is the problem's answer."""
        return decision is not None and same_answer(decision, problem.answer)
