"""Equations of numbers in a text, and whether they are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from pyro_llm.rewards.verifiers.arithmetic_expression import Reading, read

_LATEX = [
    (re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\\boxed\s*\{([^{}]*)\}"), r"\1"),
    (re.compile(r"\\text\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\(?:times|cdot|ast)(?![A-Za-z])"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "/"),
    (re.compile(r"\\approx(?![A-Za-z])"), "≈"),
    (re.compile(r"\\[,;!:() \[\]]|\\left|\\right"), " "),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"\\?[$€£]"), " "),
]
_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/", "−": "-", "\N{NO-BREAK SPACE}": " "})
_TIMES = re.compile(r"(?<=[\d)%])(\s*)[xX](\s*)(?=[-(.\d])")  # 3 x 4, but neither 3x + 4 nor x = 4
_OF = re.compile(r"(?<=%)\s+of\s+(?=[\d(.])")
_RUN = re.compile(r"(?:[-+*/^()%=≈\d \t]|\.(?=\d)|(?<=\d),(?=\d{3}(?!\d)))+")  # no comma or full stop of a sentence
_NOT_EQUAL = re.compile(r"[<>!:~]=")
_LONGEST = 1000  # characters of one side


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

    Args:
        text: plain or with simple LaTeX.

    Example:
        >>> [(equation.text, equation.right) for equation in equations("2 x 1,500 = 3,000, and 10 / 4 = 2.5 = 3.")]
        [('2 * 1,500 = 3,000', True), ('10 / 4 = 2.5', True), ('2.5 = 3', False)]
    """
    for line in text.splitlines():
        for pattern, plain in _LATEX:
            line = pattern.sub(plain, line)
        line = _TIMES.sub(r"\1*\2", line.translate(_SIGNS))
        line = _NOT_EQUAL.sub(" ; ", _OF.sub(" * ", line.replace("==", "=").replace("**", "^")))
        for run in _RUN.finditer(line):
            yield from _chain(run.group(), line[: run.start()], line[run.end() :])


def _chain(run: str, before: str, after: str) -> Iterator[Equation]:
    """The equations of `a = b = c`, less the sides that go on in letters: `x - 3 = 4`, `x2 = 4`, `1000 = 1e3`."""
    parts = re.split(r"([=≈])", run)
    sides = [_side(part) for part in parts[::2]]
    if (before[-1:].isalpha() and not run[0].isspace()) or (
        before.rstrip()[-1:].isalnum() and run.lstrip()[:1] in ("+", "-", "*", "/", "^")
    ):
        sides[0] = None
    if after[:1].isalpha() and not run[-1].isspace():
        sides[-1] = None
    for (left, right), sign in zip(pairwise(sides), parts[1::2], strict=True):
        if left is not None and right is not None and (left.is_computed or right.is_computed or left != right):
            yield Equation(f"{left.text} {sign} {right.text}", _agree(left, right, about=sign == "≈"))


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
