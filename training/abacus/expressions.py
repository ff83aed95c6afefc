"""Bare expressions, worked out from the left: a bracket or product on the right is done before it is joined on."""

from __future__ import annotations

from random import Random

from training.abacus.plan import Clause, after, moves_of, possible

ASK = ("Compute {e}.", "What is {e}?", "Work out {e}.", "Find the value of {e}.")

# Kind: text around the expression so far (`e` as it is, `b` with brackets if it is a sum), moves, moves that break the
# order of operations, and whether the whole is then a sum.
PARTS: dict[str, tuple[str, str, str, bool]] = {
    "plus": ("{e} + {a}", "x + a", "x - a", True),
    "minus": ("{e} - {a}", "x - a", "x + a", True),
    "product": ("{b} * {k}", "x * k", "x + k", False),
    "quotient": ("{b} / {k}", "x / k", "x - k", False),
    "plus product": ("{e} + {k} * {c}", "k * c, x + y", "x + k, y * c", True),
    "minus product": ("{e} - {k} * {c}", "k * c, x - y", "x - k, y * c", True),
    "plus bracket": ("{e} + ({a} - {d})", "a - d, x + y", "x + a, y + d", True),
    "minus bracket": ("{e} - ({a} - {d})", "a - d, x - y", "x - a, y - d", True),
}
WEIGHTS = {
    "plus": 4,
    "minus": 5,
    "product": 2,
    "quotient": 2,
    "plus product": 2,
    "minus product": 2,
    "plus bracket": 1,
    "minus bracket": 2,
}


def expression(rng: Random, steps: int, largest: int) -> tuple[str, int, list[Clause]]:
    """An expression of exactly `steps` operations, results up to `largest`: its text, first number, and parts."""
    start = amount = rng.randint(10, 99) if rng.random() < 0.7 else rng.randint(100, min(299, largest))
    text, is_sum, clauses = str(start), False, []
    while steps:
        kind = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        shape, code, misread, sum_after = PARTS[kind]
        low_a = rng.randint(2, amount - 1) if kind == "minus" and amount > 3 else rng.randint(5, 99)
        numbers = {"a": low_a, "k": rng.randint(2, 9), "c": rng.randint(3, 12), "d": rng.randint(2, max(2, low_a - 1))}
        if kind == "quotient":
            numbers["k"] = rng.choice([k for k in range(2, 10) if amount % k == 0] or [2])
        moves = moves_of(code, numbers)
        if len(moves) > steps or not possible(moves, amount, largest):
            continue
        text = shape.format(e=text, b=f"({text})" if is_sum else text, **numbers)
        is_sum = sum_after
        steps -= len(moves)
        amount = after(moves, amount)
        clauses.append(Clause(kind, text, moves, moves_of(misread, numbers)))
    return rng.choice(ASK).format(e=text), start, clauses
