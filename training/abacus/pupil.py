"""The pupil whose solutions the language model learns to write in the end: right mostly, and wrong in known ways.

An exact teacher gives a model that is either always or never right, which leaves nothing to infer. So the last part
of the training text is written by a pupil who slips, and who, having slipped, goes on from the wrong number. The
arithmetic slips are the procedural bugs of Brown and Burton ("Diagnostic models for procedural bugs in basic
mathematical skills", 1978): carries dropped and the smaller digit taken from the larger. The others misread a clause
or break the order of operations. Several are likelier than the right move where they apply, so that a majority vote
is wrong there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from training.abacus.plan import Clause, Line, Move, exact, perform


@dataclass(frozen=True)
class Habits:
    """Chances of slips."""

    misread: dict[str, float]
    """That a clause of this kind is misread."""
    skip: float
    """That a clause is passed over."""
    carry: tuple[float, float]
    """That the first carry of a sum is dropped, where one column carries and where more do."""
    borrow: tuple[float, float]
    """That the smaller digit is taken from the larger, where borrowing is from a number without and with a nought."""
    product: float
    """That the carry of the units of a product is dropped."""
    quotient: float
    """That a quotient is off by one."""
    digit: float
    """That any result is off by one in a digit."""


HABITS = Habits(
    misread={
        "gain": 0.002,
        "loss": 0.002,
        "times": 0.01,
        "share": 0.01,
        "groups": 0.01,
        "each": 0.5,
        "more": 0.02,
        "fewer": 0.55,
        "fold": 0.55,
        "aside": 0.55,
        "plus": 0.002,
        "minus": 0.002,
        "product": 0.002,
        "quotient": 0.002,
        "plus product": 0.02,
        "minus product": 0.5,
        "plus bracket": 0.02,
        "minus bracket": 0.55,
    },
    skip=0.001,
    carry=(0.002, 0.01),
    borrow=(0.005, 0.3),
    product=0.01,
    quotient=0.005,
    digit=0.001,
)
"""Misconceptions, some of them likelier than the right move, and few careless slips besides.

A misconception is what a majority vote cannot mend, and what a reader of the problem can see."""


def carries(left: int, right: int) -> list[int]:
    """The columns of a sum that carry, the units being column 0."""
    columns, carry = [], 0
    for place in range(5):
        carry = int(left // 10**place % 10 + right // 10**place % 10 + carry > 9)
        columns += [place] * carry
    return columns


def without_first_carry(left: int, right: int) -> int:
    """A sum in which the first carry is dropped."""
    columns = carries(left, right)
    return left + right - (10 ** (columns[0] + 1) if columns else 0)


def without_units_carry(left: int, right: int) -> int:
    """A product in which what the units carry is dropped."""
    return left * right - left % 10 * (right % 10) // 10 * 10


def smaller_from_larger(left: int, right: int) -> int:
    """A difference where in each column the smaller digit is taken from the larger, whichever is on top."""
    return sum(abs(left // 10**place % 10 - right // 10**place % 10) * 10**place for place in range(4))


def slip(rng: Random, habits: Habits, op: str, left: int, right: int) -> tuple[int, str]:
    """The pupil's result of an operation, and the name of the slip (empty where there is none)."""
    right_one = exact(op, left, right)
    chance = rng.random()
    if op == "+" and (columns := carries(left, right)) and chance < habits.carry[len(columns) > 1]:
        return without_first_carry(left, right), "dropped carry in a sum"
    bug = smaller_from_larger(left, right)
    if op == "-" and bug != right_one and chance < habits.borrow["0" in str(left)]:
        return bug, "smaller digit from larger"
    bug = without_units_carry(left, right)
    if op == "*" and bug != right_one and min(left, right) < 10 and chance < habits.product:
        return bug, "dropped carry in a product"
    if op == "/" and chance < habits.quotient:
        return right_one + rng.choice([-1, 1]) if right_one > 1 else 2, "quotient off by one"
    if chance > 1 - habits.digit:
        return right_one + rng.choice([-10, -1, 1, 10]) if right_one > 10 else right_one + 1, "digit off by one"
    return right_one, ""


def garbled(rng: Random, number: int) -> int:
    """A number with one digit changed."""
    digits = list(str(number))
    place = rng.randrange(len(digits))
    digits[place] = rng.choice([d for d in "0123456789" if d != digits[place]])
    return int("".join(digits))


def misremembered(rng: Random, moves: tuple[Move, ...]) -> tuple[Move, ...]:
    """Moves in which one number that the problem gives is another."""
    given = [i for i, move in enumerate(moves) if isinstance(move.right, int)]
    if not given:
        return moves
    place = rng.choice(given)
    wrong = replace(moves[place], right=garbled(rng, int(moves[place].right)))
    return (*moves[:place], wrong, *moves[place + 1 :])


def write(
    rng: Random, start: int, clauses: list[Clause], habits: Habits = HABITS, scale: float = 1.0, wild: float = 0.0
) -> list[Line]:
    """The pupil's lines. `scale` multiplies every chance of a slip; at 0 the solution is exact.

    `wild` is the chance of a line with a wrong digit somewhere, as a model makes them and a pupil does not.
    """
    lines: list[Line] = []
    slips: list[str] = []

    def arithmetic(op: str, left: int, right: int) -> int:
        result, bug = slip(rng, habits, op, left, right) if rng.random() < scale else (exact(op, left, right), "")
        if wild and rng.random() < wild:
            result, bug = garbled(rng, result), "wrong digit"
        slips.append(bug)
        return result

    amount = start
    for clause in clauses:
        moves, misreading = clause.moves, ""
        chance = rng.random()
        if chance < scale * habits.misread[clause.kind]:
            moves, misreading = clause.misread, f"misread: {clause.kind}"
        elif chance > 1 - scale * habits.skip:
            continue
        if wild and rng.random() < wild / 2:
            moves = misremembered(rng, moves)
        for line in perform(moves, amount, arithmetic):
            lines.append(Line(line.left, line.op, line.right, line.result, slips[-1] or misreading))
            amount = line.result
    return lines
