"""A reward from any Python function of the text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from pyro_llm.errors import RewardError
from pyro_llm.lm.state import TextState
from pyro_llm.rewards.log_odds import from_probability
from pyro_llm.rewards.reward_model import TextReward, distinct_texts, not_a_probability
from pyro_llm.run_scope import claim, current_cost


@dataclass(frozen=True, eq=False)
class FunctionReward(TextReward):
    """The probability that a function gives to a text: a checker, a parser, a heuristic.

    Two of these are equal if their functions are, or are made from the same piece of code with equal defaults and
    captured variables: so a reward that a program makes anew in each step, from a lambda, is still the same reward.

    Args:
        fn: maps the text since the prompt to the probability, in [0, 1], that it is accepted. It is called once for
            each distinct text of a run, and must be a function of the text alone.

    Raises:
        RewardError: when called, if `fn` returns anything but a number in [0, 1]; at once, if `fn` cannot be called.

    Examples:
        >>> import torch
        >>> from pyro_llm.lm import TableLM
        >>> lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
        >>> state = lm.prompt("").append(torch.tensor([[0, 0, 1], [1, 2, -1]]))
        >>> FunctionReward(lambda text: text.count("a") / 4)(state)
        tensor([0., -inf], dtype=torch.float64)
    """

    fn: Callable[[str], float]

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise RewardError(f"FunctionReward needs a function from a text to a probability, not {self.fn!r}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FunctionReward) and same_function(self.fn, other.fn)

    def __hash__(self) -> int:
        return hash(getattr(self.fn, "__code__", self.fn))

    def items(self, state: TextState) -> list[Any]:
        """The texts since the prompt."""
        return distinct_texts(state)

    def score(self, items: Sequence[str]) -> list[float]:
        """Log-odds of each text."""
        log_odds = []
        for text in items:
            claim(reward_calls=1)
            current_cost().reward_calls += 1
            log_odds.append(self._log_odds(text, self._judge(text)))
        return log_odds

    def _judge(self, text: str) -> Any:
        try:
            return self.fn(text)
        except Exception as error:
            error.add_note(f"Raised by the function of {self!r}, given the text {text!r}.")
            raise

    def _log_odds(self, text: str, value: Any) -> float:
        try:
            probability = float(value)
        except (TypeError, ValueError, RuntimeError):
            probability = math.nan
        if not 0.0 <= probability <= 1.0:
            raise not_a_probability(self, repr(value), text)
        return from_probability(probability)


def same_function(one: Any, other: Any) -> bool:
    """Whether two callables are the same, or Python functions made from the same code with the same variables."""
    if not isinstance(one, FunctionType) or not isinstance(other, FunctionType):
        return one == other
    if one is other:
        return True
    if one.__code__ is not other.__code__ or one.__globals__ is not other.__globals__:
        return False
    ours, theirs = _variables(one), _variables(other)
    return len(ours) == len(theirs) and all(map(_same_value, ours, theirs))


def _variables(fn: FunctionType) -> list[Any]:
    captured = [cell.cell_contents for cell in fn.__closure__ or ()]
    return [*captured, *(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()]


def _same_value(one: Any, other: Any) -> bool:
    return one is other or (isinstance(one, int | float | str | bytes) and type(one) is type(other) and one == other)
