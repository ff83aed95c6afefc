"""Problems, drawn one by one from a seed, in three splits that cannot meet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from random import Random
from zlib import crc32

from training.abacus import pupil
from training.abacus.expressions import expression
from training.abacus.plan import LARGEST, Clause, Line, render
from training.abacus.words import story

SEEDS = {"train": 0, "validation": 10**9, "test": 2 * 10**9}
"""The seed of a split's first problem; the i-th has this plus i."""

STEPS = range(2, 9)
WORDS = 0.65
"""Share of word problems; the others are bare expressions."""


@dataclass(frozen=True)
class Problem:
    """A problem with its plan."""

    id: str
    text: str
    kind: str
    start: int
    clauses: tuple[Clause, ...]

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The exact solution."""
        return tuple(pupil.write(Random(0), self.start, list(self.clauses), scale=0.0))

    @property
    def answer(self) -> str:
        """The right answer."""
        return str(self.lines[-1].result)

    @property
    def solution(self) -> str:
        """The exact solution as text."""
        return render(self.lines, self.lines[-1].result)

    def attempt(self, rng: Random, habits: pupil.Habits = pupil.HABITS, scale: float = 1.0, wild: float = 0.0) -> str:
        """A pupil's solution as text (see `pupil.write`)."""
        lines = pupil.write(rng, self.start, list(self.clauses), habits, scale, wild)
        return render(lines, lines[-1].result if lines else self.start)

    def record(self) -> dict[str, str | int]:
        """What is published of a problem."""
        return {
            "id": self.id,
            "problem": self.text,
            "answer": self.answer,
            "steps": len(self.lines),
            "kind": self.kind,
            "solution": self.solution,
        }


def split_of(text: str) -> str:
    """The split to which a text belongs. By its hash, so that no text can be in two."""
    return {0: "test", 1: "validation"}.get(crc32(text.encode()) % 16, "train")


def draw(split: str, index: int, largest: int = LARGEST) -> Problem:
    """The problem number `index` of a split: drawn from its own seed, again until the text belongs to the split."""
    rng = Random(SEEDS[split] + index)
    steps = rng.choice(STEPS)
    kind = "words" if rng.random() < WORDS else "expression"
    while True:
        text, start, clauses = (story if kind == "words" else expression)(rng, steps, largest)
        if split_of(text) == split:
            return Problem(f"{split}-{index}", text, kind, start, tuple(clauses))
