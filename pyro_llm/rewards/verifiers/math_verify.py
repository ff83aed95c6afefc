"""A reference answer as a reward."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from pyro_llm.answers import answer
from pyro_llm.errors import MissingExtraError, OptionError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.composition.derived import check_probability
from pyro_llm.rewards.isolation import IsolatedReward
from pyro_llm.rewards.log_odds import from_probability
from pyro_llm.rewards.reward_model import distinct_texts

_WITH_UNIT = re.compile(r"(?P<number>[-+]?[$€£]?\d[\d.,/]*)\s+(?P<unit>[A-Za-z]{3,}(?:\s+[A-Za-z]+)*)\.?")
_FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "sqrt", "arcsin", "arccos", "arctan"})


@dataclass(frozen=True)
class MathVerifyReward(IsolatedReward):
    r"""Accepts texts whose answer is mathematically equal to a reference (the package math-verify; extra `verifiers`).

    `1/2`, `0.5` and `\frac{1}{2}` are equal, and so are `(x+1)^2` and `x^2+2x+1`. A number with its unit, `95 marbles`,
    is read as the number. math-verify reads and simplifies with SymPy, which may take for ever, and evaluates what it
    reads: therefore it runs in another process, with the time limit of this package, not its own (that is a signal,
    which no other thread than the main one may use).

    Args:
        reference: the right answer, LaTeX or plain.
        extract: from a text to the answer that it states, or None if it states none.
        no_answer: probability of a text that states none; give 1.0 where prefixes are judged too.
        timeout: seconds for an answer; None for no limit.
        on_failure: probability of an answer on which math-verify runs out of time or crashes; None: an error.
        workers: processes.

    Raises:
        MissingExtraError: math-verify is not installed.
        OptionError: an option is out of its range.
        RewardError: when it scores, if the reference cannot be read.
    """

    reference: str
    extract: Callable[[str], str | None] = answer
    no_answer: float = 0.0
    timeout: float | None = field(default=5.0, kw_only=True)
    on_failure: float | None = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_probability("no_answer", self.no_answer)
        if not isinstance(self.reference, str) or not self.reference.strip():
            raise OptionError(f"reference={self.reference!r}: give the right answer as a text.")
        check_installed("A reference answer as a reward")

    def items(self, state: TextState) -> list[str | None]:
        """The answers that the texts since the prompt state."""
        texts = distinct_texts(state)
        answers = {text: self.extract(text) for text in set(texts)}
        return [answers[text] for text in texts]

    def score(self, items: Sequence[str | None]) -> list[float]:
        """Log-odds of each answer."""
        stated = [item for item in items if item is not None]
        log_odds: dict[str | None, float] = dict(zip(stated, super().score(stated), strict=True))
        log_odds[None] = from_probability(self.no_answer)
        return [log_odds[item] for item in items]

    def make(self) -> Callable[[], Callable[[str], Any]]:
        """What reads the reference once in the other process."""
        reference, make_reader = self.reference, reader()

        def make_check() -> Callable[[str], bool]:
            from math_verify import verify

            read = make_reader()
            gold = read(reference)
            if not gold:
                raise ValueError(f"math-verify cannot read the reference {reference!r}")
            return lambda statement: bool(verify(gold, read(statement), timeout_seconds=None))

        return make_check


def reader() -> Callable[[], Callable[[str], list[Any]]]:
    """What makes, in another process, the function by which math-verify reads an answer; it reads `[]` if it cannot.

    It refers to nothing of this module but its own variables: the other process would import torch with it.
    """
    with_unit, functions = _WITH_UNIT, _FUNCTIONS

    def make_reader() -> Callable[[str], list[Any]]:
        import logging

        from math_verify import parse

        logging.getLogger("math_verify").setLevel(logging.CRITICAL)

        def read(statement: str) -> list[Any]:
            statement = statement.strip()
            number = with_unit.fullmatch(statement)
            if number and functions.isdisjoint(number["unit"].lower().split()):
                statement = number["number"]
            return list(parse(f"${statement.strip('$')}$", parsing_timeout=None))

        return read

    return make_reader


def check_installed(what: str) -> None:
    """Raise MissingExtraError if `what` cannot be had for lack of math-verify."""
    if find_spec("math_verify") is None:
        raise MissingExtraError(f"{what} needs the package math-verify: pip install 'pyro-llm[verifiers]'.")
