"""Equations of numbers in a text, and whether they are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from math import factorial
from typing import NamedTuple

from pyro_llm.rewards.verifiers.arithmetic_expression import Reading, read
from pyro_llm.rewards.verifiers.plain_text import plain
from pyro_llm.rewards.verifiers.surroundings import Beginning, beginning, follows_label, goes_on

_RUN = re.compile(r"(?:[-+*/^()%=≈\d \t]|\.(?=\d)|(?<=\d),(?=\d{3}(?!\d)))+")  # no comma or full stop of a sentence
_MARK = re.compile(r"\s*([-+*])\s+(?=[-(.\d])")  # of a list, or a sign
_STEP = re.compile(r"\s*\d+\s*-\s+")
_NUMBERED = re.compile(r"\s*(?:[*>#]+\s+)*\(?\w{1,2}[.)]\s+(?=\S)")
_OPERATORS = tuple("+-*/^")
_LONGEST = 1000  # characters of one side
_LARGEST_FACTORIAL = 20


class Equation(NamedTuple):
    """Two sides that a text says are equal.

    Attributes:
        text: as it was read.
        right: whether they are.
    """

    text: str
    right: bool


def equations(text: str) -> Iterator[Equation]:
    """The equations between numbers in a text, in order; a chain `a = b = c` has two.

    Numbers are taken for a side only if nothing before or after them belongs to it: not 48 in "half of 48", nor what
    follows a root, an index or a command of LaTeX that is not understood. Where a mark or a sign may be meant,
    `- 3 + 4 = 7` or `2 + 4 = 3!`, an equation is right if it is in one of the meanings.

    Args:
        text: plain English, or with simple LaTeX.

    Example:
        >>> [(equation.text, equation.right) for equation in equations("2 x 1,500 = 3,000, and 10 / 4 = 2.5 = 3.")]
        [('2 * 1,500 = 3,000', True), ('10 / 4 = 2.5', True), ('2.5 = 3', False)]
    """
    for line in text.splitlines():
        line = plain(_NUMBERED.sub("", line, count=1) if _NUMBERED.match(line) else line)
        for run in _RUN.finditer(line):
            if "=" in run.group() or "≈" in run.group():
                yield from _chain(run.group(), line, run.start(), run.end())


def _chain(run: str, line: str, start: int, end: int) -> Iterator[Equation]:
    """The equations of `a = b = c`, less the sides that go on beyond it: `x - 3 = 4`, `x2 = 4`, `1000 = 1e3`."""
    parts = re.split(r"([=≈])", run)
    sides = [_side(part) for part in parts[::2]]
    if parts[0].strip():
        sides[0] = _first(parts[0], line, start)
    if sides[-1] is not None:
        sides[-1] = _last(sides[-1], line, end)
    for (left, right), sign in zip(pairwise(sides), parts[1::2], strict=True):
        if left is not None and right is not None and (left.is_computed or right.is_computed or left != right):
            yield Equation(f"{left.text} {sign} {right.text}", _agree(left, right, about=sign == "≈"))


def _first(part: str, line: str, start: int) -> Reading | None:
    """The side that a run begins with, in each of its meanings."""
    allowed = beginning(line, start)
    mark = _MARK.match(part)
    if allowed is Beginning.PART or (allowed is not Beginning.CLAUSE and part.strip().startswith(_OPERATORS)):
        return None
    meanings = [_side(part)]
    if mark is not None:
        meanings.append(_side(part[mark.end() :]))
        allowed = Beginning.EXPRESSION  # a lone number may go on from the line before: - 3 = 12
    elif follows_label(line, start) and (label := _STEP.match(part)):
        meanings.append(_side(part[label.end() :]))
    found = [meaning for meaning in meanings if meaning is not None]
    if not found or (allowed is Beginning.EXPRESSION and not all(side.is_computed for side in found[:1])):
        return None
    return found[0]._replace(values=tuple(value for side in found for value in side.values))


def _last(side: Reading, line: str, end: int) -> Reading | None:
    """The side that a run ends with, as what follows has it: 6!, 0.66..."""
    if goes_on(line, end):
        return None
    if line.startswith(("...", "…"), end) and side.half_unit is not None:
        return side._replace(half_unit=2 * side.half_unit)  # cut off and not rounded
    value = side.values[0]
    if line.startswith("!", end) and not side.is_computed and value in range(_LARGEST_FACTORIAL + 1):
        return side._replace(values=(*side.values, Fraction(factorial(int(value)))))
    return side


def _side(text: str) -> Reading | None:
    text = text.strip()
    return read(text) if 0 < len(text) <= _LONGEST else None


def _agree(left: Reading, right: Reading, about: bool) -> bool:
    """Whether two sides are equal, a decimal being what it is rounded to: 10 / 3 = 3.33, but not 10 / 3 = 3.

    A whole number is rounded only where the text says "about": 10 / 3 ≈ 3.
    """
    tolerances = [side.half_unit for side in (left, right) if side.half_unit is not None and (about or side.is_decimal)]
    tolerance = max(tolerances, default=0)
    return any(abs(one - other) <= tolerance for one in left.values for other in right.values)
