"""The equations of a step as a reward."""

from __future__ import annotations

from dataclasses import dataclass

from pyro_llm.errors import OptionError
from pyro_llm.rewards.composition.derived import check_probability
from pyro_llm.rewards.verifiers.equations import equations
from pyro_llm.rewards.verifiers.verifier import Verifier


@dataclass(frozen=True)
class ArithmeticReward(Verifier):
    r"""Accepts a step if the equations in it are right: 47 + 48 = 95, 3 x 1,500 = 4,500, 20% of 50 = 10, 7/2 = 3.5.

    Sides are worked out in fractions, never by `eval`. A chain a = b = c is two equations. A decimal stands for what is
    rounded to it (10 / 3 = 3.33 is right, 10 / 3 = 3 is not, 10 / 3 ≈ 3 is). What has letters in it (2x + 3 = 7), units
    between numbers (5 m + 3 m = 8 m), or two meanings (100 + 10% = 110) is no equation that is checked.

    It knows nothing of the problem: the right equation may be the wrong step.

    Args:
        right: probability of a step with equations, all of them right.
        wrong: probability of one with a wrong equation.
        no_equation: probability of one without any.
        separator: between steps; only the last step of a text that is not blank is judged. None: the whole text.

    Raises:
        OptionError: a probability is none, or the separator is empty.

    Examples:
        >>> checker = ArithmeticReward(wrong=0.05, no_equation=0.5)
        >>> [checker.probability(step) for step in ("47 + 48 = 95\n", "47 + 48 = 85\n", "So there are more.\n")]
        [1.0, 0.05, 0.5]
    """

    right: float = 1.0
    wrong: float = 0.0
    no_equation: float = 1.0
    separator: str | None = "\n"

    def __post_init__(self) -> None:
        for name in ("right", "wrong", "no_equation"):
            check_probability(name, getattr(self, name))
        if self.separator == "":
            raise OptionError("separator='': give what ends a step, or None to judge the whole text.")

    def probability(self, text: str) -> float:
        """`right`, `wrong` or `no_equation`."""
        if self.separator is not None:
            text = next((step for step in reversed(text.split(self.separator)) if step.strip()), "")
        verdicts = [equation.right for equation in equations(text)]
        if not verdicts:
            return self.no_equation
        return self.right if all(verdicts) else self.wrong
