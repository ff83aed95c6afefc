"""Plans: a problem is a list of clauses, and a clause is a text with the arithmetic that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Term = int | str
"""A number, `"x"` (the amount before the clause) or `"y"` (the result of the move before)."""

Arithmetic = Callable[[str, int, int], int]
"""Operation and two operands to a result."""

LARGEST, WIDEST = 199, 599
"""The largest result of a published problem, and of those that the language model starts with."""


@dataclass(frozen=True)
class Move:
    """One operation of a plan, which is one line of the solution."""

    left: Term
    op: str
    right: Term


def moves_of(code: str, numbers: dict[str, int]) -> tuple[Move, ...]:
    """`"k * c, x + y"` to moves, with the letters of `numbers` put in."""
    parts = [part.split() for part in code.split(", ") if part]
    return tuple(Move(numbers.get(left, left), op, numbers.get(right, right)) for left, op, right in parts)


@dataclass(frozen=True)
class Clause:
    """A part of a problem's text, the moves it means, and the moves of a reader who misunderstands it."""

    kind: str
    text: str
    moves: tuple[Move, ...]
    misread: tuple[Move, ...] = ()


@dataclass(frozen=True)
class Line:
    """One line of a solution, such as "47 + 48 = 95". `slip` names what is wrong with it, if anything."""

    left: int
    op: str
    right: int
    result: int
    slip: str = ""

    def __str__(self) -> str:
        return f"{self.left} {self.op} {self.right} = {self.result}"


def exact(op: str, left: int, right: int) -> int:
    """Exact arithmetic on numbers from nought up: differences are taken the way that is possible, quotients floored."""
    if op == "+":
        return left + right
    if op == "-":
        return abs(left - right)
    if op == "*":
        return left * right
    return left // max(right, 1)


def perform(moves: Iterable[Move], amount: int, arithmetic: Arithmetic = exact) -> Iterator[Line]:
    """The lines that come of `moves`, when the amount before them is `amount`."""
    values = {"x": amount, "y": amount}
    for move in moves:
        left = values[move.left] if isinstance(move.left, str) else move.left
        right = values[move.right] if isinstance(move.right, str) else move.right
        values["y"] = arithmetic(move.op, left, right)
        yield Line(left, move.op, right, values["y"])


def after(moves: Iterable[Move], amount: int) -> int:
    """The amount after exact `moves`, which is the last result."""
    for line in perform(moves, amount):
        amount = line.result
    return amount


def possible(moves: Iterable[Move], amount: int, largest: int) -> bool:
    """Whether every result is whole, above nought and at most `largest`."""
    for line in perform(moves, amount):
        if (line.op == "-" and line.left <= line.right) or (line.op == "/" and line.left % line.right):
            return False
        if not 0 < line.result <= largest:
            return False
    return True


def render(lines: Iterable[Line], answer: int) -> str:
    """A solution as text: a step a line, then the answer."""
    return "".join(f"{line}\n" for line in lines) + f"answer: {answer}"
