"""The plain comparison of answers."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from pyro_llm.study.problem import Problem

_IN_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")


def same_answer(left: str, right: str) -> bool:
    """Whether two answers agree, as texts or as numbers.

    >>> same_answer("1,000", "1000.0"), same_answer("1,2", "12")
    (True, False)
    """
    left, right = left.strip(), right.strip()
    try:
        return left == right or Decimal(_without_separators(left)) == Decimal(_without_separators(right))
    except InvalidOperation:
        return False


def _without_separators(text: str) -> str:
    """A number without commas between its thousands; anything else as it is."""
    return text.replace(",", "") if _IN_THOUSANDS.fullmatch(text) else text


class SameAnswer:
    """Grades by `same_answer`; no answer is wrong."""

    def grade(self, decision: str | None, problem: Problem) -> bool:
        """Whether the decision is the problem's answer."""
        return decision is not None and same_answer(decision, problem.answer)
