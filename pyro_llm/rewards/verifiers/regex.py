"""A regular expression as a reward."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyro_llm.errors import OptionError
from pyro_llm.rewards.composition.derived import check_probability
from pyro_llm.rewards.verifiers.verifier import Verifier


@dataclass(frozen=True)
class RegexReward(Verifier):
    r"""Accepts texts in which a regular expression is found.

    To condition a language model on an expression while it writes, take `ConstrainedText`. Expressions that backtrack
    without end belong into an `IsolatedFunctionReward`, which has a time limit.

    Args:
        pattern: a regular expression of Python's `re`.
        whole: whether it must match the whole text, not some part of it.
        flags: of `re`, such as `re.IGNORECASE`.
        found: probability of a text that matches.
        absent: probability of one that does not.

    Raises:
        OptionError: the pattern is no regular expression, or a probability is none.

    Examples:
        >>> from pyro_llm.lm import TableLM
        >>> state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
        >>> RegexReward(r"a+", absent=0.5)(state)
        tensor(0., dtype=torch.float64)
    """

    pattern: str
    whole: bool = False
    flags: int = 0
    found: float = 1.0
    absent: float = 0.0

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern, self.flags)
        except (re.error, TypeError, ValueError) as error:
            raise OptionError(f"{self.pattern!r} is no regular expression: {error}.") from error
        check_probability("found", self.found)
        check_probability("absent", self.absent)

    def probability(self, text: str) -> float:
        """`found` or `absent`."""
        match = re.fullmatch if self.whole else re.search
        return self.found if match(self.pattern, text, self.flags) else self.absent
