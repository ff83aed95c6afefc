"""Word problems: stories of an amount that changes clause by clause."""

from __future__ import annotations

from random import Random

from training.abacus.plan import Clause, after, moves_of, possible

NAMES = (  # noqa: SIM905
    "Mia Tom Ana Leo Zoe Sam Eva Max Ivy Ben Alice Bob Carol Dan Ella Finn Grace Hugo Iris Jack Kim Liam Maya Noah "
    "Olga Paul Rosa Sara Theo Uma Vera Will Yara Zack Emma Lucas Nina Omar Priya Ravi Chen Aiko Sofia Diego Lena Karl"
).split()
THINGS = (  # noqa: SIM905
    "marbles apples coins books stamps shells pens cards stickers beads pebbles cookies oranges pears eggs balls "
    "candies buttons tickets flowers pencils toys nuts plums figs lemons ribbons badges seeds photos bottles keys"
).split()

START = ("{n} has {x} {t}.", "{n} starts with {x} {t}.", "There are {x} {t} in {n}'s box.", "{n} owns {x} {t}.")
QUESTION = (
    "How many {t} does {n} have now?",
    "How many {t} are there in the end?",
    "How many {t} does {n} have in the end?",
    "How many {t} are there now?",
    "How many {t}?",
)

# Kind: phrasings, moves, moves of a reader who misunderstands. `a` is any number, `k` a small one, `c` one up to a
# dozen or so.
CLAUSES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "gain": (
        (
            "{n} buys {a} more.",
            "{n} finds {a} more {t}.",
            "{m} gives {n} {a} more.",
            "Then {n} wins {a} {t}.",
            "{n} gets {a} from {m}.",
            "The next day {n} collects another {a}.",
        ),
        "x + a",
        "x - a",
    ),
    "loss": (
        (
            "{n} loses {a}.",
            "{n} gives {a} to {m}.",
            "{n} sells {a} of them.",
            "{m} takes {a} {t} from {n}.",
            "Then {a} of them get lost.",
            "{n} gives {m} {a} {t}.",
        ),
        "x - a",
        "x + a",
    ),
    "times": (
        (
            "The number grows {k} times.",
            "A week later {n} has {k} times as many.",
            "Then the number of {t} becomes {k} times as large.",
        ),
        "x * k",
        "x + k",
    ),
    "share": (
        (
            "{n} makes {k} equal piles and keeps one.",
            "{n} shares them equally among {k} boxes and keeps only one box.",
            "{n} keeps one out of every {k}.",
        ),
        "x / k",
        "x - k",
    ),
    "groups": (
        (
            "{n} gets {k} bags of {c}.",
            "{n} buys {k} boxes with {c} {t} in each.",
            "{m} brings {k} packs of {c} {t}.",
            "Each of {k} friends gives {n} {c} {t}.",
        ),
        "k * c, x + y",
        "x + c",
    ),
    "each": (
        (
            "{n} gives {k} to each of {c} friends.",
            "{c} children take {k} {t} each.",
            "{n} fills {c} bags with {k} {t} each and sells the bags.",
        ),
        "k * c, x - y",
        "x - k",
    ),
    "more": (
        (
            "{m} has {a} more than {n} and gives {n} all of them.",
            "{m} brings {a} more than {n} has, and they put them together.",
        ),
        "x + a, x + y",
        "x + a",
    ),
    "fewer": (
        (
            "{m} has {a} fewer than {n} and gives {n} all of them.",
            "{m} brings {a} fewer than {n} has, and they put them together.",
        ),
        "x - a, x + y",
        "x - a",
    ),
    "fold": (
        (
            "{m} has {k} times as many as {n} and gives {n} all of them.",
            "{m} brings {k} times as many as {n} has, and they put them together.",
        ),
        "x * k, x + y",
        "x * k",
    ),
    "aside": (
        ("{m} is {a} years old.", "The walk takes {a} minutes.", "{m} has {a} hats.", "It is {a} degrees outside."),
        "",
        "x + a",
    ),
}
WEIGHTS = {"gain": 4, "loss": 5, "times": 1.5, "share": 2, "groups": 2, "each": 2, "more": 1, "fewer": 1, "fold": 1}


def coined(rng: Random, end: str) -> str:
    """A word that is in no list, so that the model learns to read over names it does not know."""
    return "".join(rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") for _ in range(rng.randint(2, 3))) + end


def name(rng: Random) -> str:
    """A person's name, seldom a coined one."""
    return rng.choice(NAMES) if rng.random() < 0.9 else coined(rng, rng.choice(["", "n", "s", "r"])).capitalize()


def clause(rng: Random, kind: str, amount: int, cast: dict[str, str], largest: int) -> Clause | None:
    """A clause of this kind that can be done with this amount, or None if a few draws found none."""
    phrasings, code, misread = CLAUSES[kind]
    for _ in range(4):
        below = rng.randint(2, amount - 1) if kind in ("loss", "fewer") and amount > 3 else rng.randint(5, 99)
        numbers = {"a": below, "k": rng.randint(2, 9), "c": rng.randint(3, 12)}
        if kind == "aside":
            numbers["a"] = rng.randint(4, 60)
        if kind == "share":
            numbers["k"] = rng.choice([k for k in range(2, 10) if amount % k == 0] or [2])
        moves = moves_of(code, numbers)
        if possible(moves, amount, largest):
            text = rng.choice(phrasings).format(**numbers, **cast)
            return Clause(kind, text, moves, moves_of(misread, numbers))
    return None


def story(rng: Random, steps: int, largest: int) -> tuple[str, int, list[Clause]]:
    """A word problem of exactly `steps` moves, results up to `largest`: its text, first amount, and clauses."""
    teller, thing = name(rng), rng.choice(THINGS) if rng.random() < 0.93 else coined(rng, "s")
    start = amount = rng.randint(10, 99) if rng.random() < 0.7 else rng.randint(100, min(299, largest))
    clauses: list[Clause] = []
    aside = rng.randrange(steps) if rng.random() < 0.2 else -1
    while steps:
        other = name(rng)
        cast = {"n": teller, "m": other if other != teller else "Jo", "t": thing}
        kind = "aside" if aside == len(clauses) else rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        drawn = clause(rng, kind, amount, cast, largest)
        if drawn is None or len(drawn.moves) > steps:
            continue
        clauses.append(drawn)
        steps -= len(drawn.moves)
        amount = after(drawn.moves, amount)
    cast = {"n": teller, "t": thing}
    parts = [rng.choice(START).format(x=start, **cast), *(c.text for c in clauses), rng.choice(QUESTION).format(**cast)]
    return " ".join(parts), start, clauses
