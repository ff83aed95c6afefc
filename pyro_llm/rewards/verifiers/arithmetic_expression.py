"""Reading an arithmetic expression: exact, bounded, without `eval`."""

from __future__ import annotations

import ast
import re
from fractions import Fraction
from typing import NamedTuple

_NUMBER = re.compile(r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<percent>\s*%)?")
_MAX_EXPONENT, _MAX_BITS = 64, 4096


class Reading(NamedTuple):
    """One side of an equation.

    Attributes:
        text: the side.
        values: what it may mean: of a lone percentage, 15%, both 15/100 and 15.
        half_unit: of the last place of a lone number, what rounding may change; None of an expression.
        is_decimal: whether it is a lone number with a decimal point.
    """

    text: str
    values: tuple[Fraction, ...]
    half_unit: Fraction | None
    is_decimal: bool

    @property
    def is_computed(self) -> bool:
        """Whether it is an expression and no lone number."""
        return self.half_unit is None


class _Unreadable(Exception):
    """No arithmetic, or too large to work out."""


def read(text: str) -> Reading | None:
    """Read numbers with `+ - * / ^` and parentheses; None for what is no such expression, or divides by zero.

    Args:
        text: numbers may have thousands separators, a decimal point, a percent sign.

    Example:
        >>> read("(1,000 + 20%) / 3"), read("2 ^ 10 - 4").values, read("7.25").half_unit
        (None, (Fraction(1020, 1),), Fraction(1, 200))
    """
    lone = re.fullmatch(r"(?P<sign>[-+]?)\s*" + _NUMBER.pattern, text)
    if lone is not None:
        digits = lone["digits"].replace(",", "")
        number = Fraction(digits) * (-1 if lone["sign"] == "-" else 1)
        places = len(digits.partition(".")[2])
        half = Fraction(1, 2 * 10**places)
        if lone["percent"]:
            return Reading(text, (number / 100, number), half / 100, places > 0)
        return Reading(text, (number,), half, places > 0)
    numbers: list[tuple[Fraction, bool]] = []

    def name(match: re.Match[str]) -> str:
        value = Fraction(match["digits"].replace(",", ""))
        numbers.append((value / 100 if match["percent"] else value, bool(match["percent"])))
        return f" _{len(numbers) - 1} "

    expression = _NUMBER.sub(name, text).strip().replace("^", "**")
    try:
        tree = ast.parse(expression, mode="eval").body
        return Reading(text, (_value(tree, numbers),), None, False)
    except (SyntaxError, ValueError, _Unreadable, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr, numbers: list[tuple[Fraction, bool]]) -> Fraction:
    match node:
        case ast.Name(id=name) if name.startswith("_"):
            return numbers[int(name[1:])][0]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, numbers)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, numbers)
        case ast.BinOp(left=left, op=operator, right=right):
            if isinstance(operator, ast.Add | ast.Sub) and _is_percentage(right, numbers):
                raise _Unreadable  # 100 + 10% may be 110 or 100.1
            return _bounded(_apply(operator, _value(left, numbers), _value(right, numbers)))
    raise _Unreadable


def _is_percentage(node: ast.expr, numbers: list[tuple[Fraction, bool]]) -> bool:
    return isinstance(node, ast.Name) and numbers[int(node.id[1:])][1]


def _apply(operator: ast.operator, left: Fraction, right: Fraction) -> Fraction:
    match operator:
        case ast.Add():
            return left + right
        case ast.Sub():
            return left - right
        case ast.Mult():
            return left * right
        case ast.Div():
            return left / right
        case ast.Pow() if right.denominator == 1 and abs(right) <= _MAX_EXPONENT:
            return Fraction(left**right.numerator)
    raise _Unreadable


def _bounded(value: Fraction) -> Fraction:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise _Unreadable
    return value
