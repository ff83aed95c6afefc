"""One form for all ways of writing a mathematical answer, so that votes for it can be counted together.

It is run as a file in another process, and imports nothing of this package, which would bring torch along.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import sympy
from sympy.core.relational import Relational

DIGITS, EVALUATED = 12, 40
"""Significant digits in which irrational values are told apart, and those that they are computed with."""

_POINTS = range(3)
_WORDS = re.compile(r"\\(?:text|textbf|textit|mathrm|mbox)\s*\{\s*\(?([A-Za-z][A-Za-z .,'-]*?)\)?\s*\}|([A-Za-z]{3,})")


def form_of(statement: str, read: Callable[[str], Sequence[Any]]) -> str | None:
    r"""The form of an answer as it is written; None where it cannot be read.

    Numbers are compared exactly if rational, else by 12 digits; a percentage is its number. Expressions in variables
    are equal if their values are at three points, equations and inequalities if the differences of their sides are in
    proportion. Of `x = 5` the form is that of 5. Words are themselves, small and capital letters alike.

    Args:
        statement: the answer.
        read: from a text to what math-verify reads, the expression first.

    Examples:
        >>> from math_verify import parse
        >>> read = lambda text: parse(f"${text}$", parsing_timeout=None)
        >>> form_of("0.5", read), form_of(r"\frac{2}{4}", read), form_of("50%", read), form_of("(1, 2]", read)
        ('1/2', '1/2', '50', '(1, 2]')
        >>> form_of("(x+1)^2", read) == form_of("x^2 + 2x + 1", read) != form_of("x^2 + 2x", read)
        True
    """
    words = _WORDS.fullmatch(statement.strip())
    if words and len(said := words[1] or words[2]) > 1:
        return f"words {' '.join(said.lower().split())}"
    found = read(statement)
    return _form(found[0]) if found and not isinstance(found[0], str) else None


def _form(value: Any) -> str | None:
    if isinstance(value, sympy.FiniteSet):
        return _joined("{", sorted, value.args, "}")
    if isinstance(value, sympy.Interval):
        ends = [_form(value.start), _form(value.end)]
        opening, closing = "(" if value.left_open else "[", ")" if value.right_open else "]"
        return None if None in ends else f"{opening}{ends[0]}, {ends[1]}{closing}"
    if isinstance(value, sympy.Union | sympy.Intersection):
        return _joined(f"{type(value).__name__}(", sorted, value.args, ")")
    if isinstance(value, sympy.Tuple):
        return _joined("(", list, value.args, ")")
    if isinstance(value, sympy.MatrixBase):
        return _joined(f"matrix {value.shape} ", list, value.flat(), "")
    if isinstance(value, sympy.And | Relational):
        return _of_relation(value)
    return _of_expression(value) if isinstance(value, sympy.Expr) else sympy.srepr(value)


def _joined(opening: str, order: Callable[[Any], list[str]], parts: Sequence[Any], closing: str) -> str | None:
    forms = [_form(part) for part in parts]
    return None if None in forms else opening + ", ".join(order(forms)) + closing


def _of_relation(value: Any) -> str | None:
    parts = list(getattr(value, "_unsorted_args", value.args)) if isinstance(value, sympy.And) else [value]
    if all(isinstance(part, sympy.Eq) for part in parts) and isinstance(parts[0].lhs, sympy.Symbol):
        return _form(parts[-1].rhs)
    if len(value.free_symbols) == 1 and not isinstance(value, sympy.Eq | sympy.Ne):
        return _form(value.as_set())
    if len(parts) > 1:
        return _joined("and ", sorted, parts, "")
    left, right = value.lhs, value.rhs
    if isinstance(value, sympy.Lt | sympy.Le):
        left, right = right, left
    found = _values(_exact(left - right)) if isinstance(left - right, sympy.Expr) else None
    if not found:
        return sympy.srepr(value)
    scale = next((one for one in found if one != 0), sympy.Integer(1))
    if not isinstance(value, sympy.Eq | sympy.Ne):
        scale = abs(scale)
    name = "=" if isinstance(value, sympy.Eq) else "!=" if isinstance(value, sympy.Ne) else ">"
    closed = "=" if isinstance(value, sympy.Le | sympy.Ge) else ""
    return f"0 {name}{closed} " + " ".join(_digits(one / scale) for one in found)


def _of_expression(value: Any) -> str:
    value = _exact(_without_percent(value))
    if value.is_Rational:
        return str(value)
    found = _values(value)
    if found is None:
        return sympy.srepr(value)
    return " ".join(map(_digits, found))


def _without_percent(value: Any) -> Any:
    """50 of what math-verify reads in `50%`: the question asks for one, or the sign would not be there."""
    hundredth = sympy.UnevaluatedExpr(sympy.Rational(1, 100))
    if isinstance(value, sympy.Mul) and len(value.args) == 2 and value.args[1] == hundredth:
        return value.args[0]
    return value


def _exact(value: Any) -> Any:
    """With decimals as the fractions that they are written for, and evaluated."""
    return value.xreplace({one: sympy.Rational(str(one)) for one in value.atoms(sympy.Float)}).doit()


def _values(value: Any) -> list[Any] | None:
    """At each point; one value where there are no variables, None where there is no value."""
    symbols = sorted(value.free_symbols, key=lambda symbol: symbol.name)
    found = []
    for point in _POINTS if symbols else (0,):
        number = sympy.N(value.xreplace({one: _coordinate(one.name, point) for one in symbols}), EVALUATED)
        if not number.is_number or number.has(sympy.nan, sympy.zoo, sympy.oo) or not _is_evaluated(number):
            return None
        found.append(number)
    return found


def _is_evaluated(number: Any) -> bool:
    return all(part.is_Float or part.is_Rational for part in number.as_real_imag())


def _coordinate(name: str, point: int) -> Any:
    """Between 1/2 and 3/2, by chance of the name; at the second point negative, at the third by chance."""
    digest = hashlib.sha256(f"{point} {name}".encode()).digest()
    size = sympy.Rational(int.from_bytes(digest[:4]), 2**32) + sympy.Rational(1, 2)
    return sympy.Float(size if point == 0 or (point == 2 and digest[4] % 2) else -size, EVALUATED)


def _digits(number: Any) -> str:
    """A value in so few digits that rounding does not show."""
    size = abs(number)
    parts = [part if abs(part) > size * 10**-20 else sympy.Integer(0) for part in number.as_real_imag()]
    return "+i".join(str(sympy.N(part, DIGITS)) if part else "0" for part in parts)
