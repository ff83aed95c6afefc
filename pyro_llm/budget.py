"""What a run may spend at most, and what that costs in money."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from pyro_llm.errors import OptionError
from pyro_llm.prices import Prices
from pyro_llm.validation import as_integer

if TYPE_CHECKING:
    from pyro_llm.run_scope import Cost

_COUNTS = ("generations", "lm_tokens", "lm_tokens_sampled", "lm_tokens_forwarded", "reward_tokens", "reward_calls")


@dataclass(frozen=True)
class Budget:
    """What one run may spend at most: any of these items, each as `posterior.cost` counts it.

    A run stays under all of them: each forward pass of a language model or reward is checked against the budget before
    it is made, and one that would exceed it is not made. The run then ends with what it has, see `docs/budgets.md`;
    a `BudgetWarning` says so, and `posterior.stopped_by` names the item. Counts and dollars by token are exact,
    with one exception: the tokens of a reward on a server are those that the server tells with its answer, so they can
    exceed the budget by one batch of texts. `seconds`, and dollars by the hour, are looked at in the same places, and
    can be exceeded by one forward pass.

    Args:
        generations: texts begun; see `Cost`.
        lm_tokens: tokens that language models read or wrote: `Cost.lm_tokens`.
        lm_tokens_sampled: tokens drawn from language models.
        lm_tokens_forwarded: tokens that went through language models.
        reward_tokens: tokens that went through reward models.
        reward_calls: forward passes of reward models, or calls of reward functions.
        seconds: wall-clock time since the run began; of runs made together, others' turns included.
        dollars: money, by `prices`.
        prices: what things cost.

    Raises:
        OptionError: nothing is limited; a limit is not a positive number, or not a whole one for a count; there are
            dollars without prices, or prices without dollars.

    Examples:
        >>> Budget(lm_tokens=20_000, seconds=30)
        Budget(lm_tokens=20000, seconds=30)
        >>> Budget(dollars=0.05)
        Traceback (most recent call last):
        pyro_llm.errors.OptionError: dollars=0.05 cannot be counted without prices: give prices=Prices(...).
    """

    generations: int | None = None
    lm_tokens: int | None = None
    lm_tokens_sampled: int | None = None
    lm_tokens_forwarded: int | None = None
    reward_tokens: int | None = None
    reward_calls: int | None = None
    seconds: float | None = None
    dollars: float | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        limits = self.limits
        for item, limit in limits.items():
            kinds = "an integer of at least 1" if item in _COUNTS else "a finite number above 0"
            number = as_integer(limit) is not None or (isinstance(limit, float) and item not in _COUNTS)
            if not number or not 0 < limit < math.inf:
                raise OptionError(f"{item}={limit!r} is no limit of a budget: give {kinds}, or leave it out.")
        if self.prices is not None and not isinstance(self.prices, Prices):
            raise OptionError(f"prices={self.prices!r}: give Prices(...).")
        if self.dollars is not None and self.prices is None:
            raise OptionError(f"dollars={self.dollars!r} cannot be counted without prices: give prices=Prices(...).")
        if self.prices is not None and self.dollars is None:
            raise OptionError("prices limit nothing without dollars: give dollars=... too, or leave the prices out.")
        if not limits:
            raise OptionError(f"A budget limits something: give some of {', '.join(self.items())}.")

    @staticmethod
    def items() -> tuple[str, ...]:
        """The names of all items that can be limited."""
        return tuple(field.name for field in fields(Budget) if field.name != "prices")

    @property
    def limits(self) -> dict[str, float]:
        """The items that are limited, and to what."""
        return {item: getattr(self, item) for item in self.items() if getattr(self, item) is not None}

    def exceeded_by(self, cost: Cost) -> str | None:
        """The first item of which a cost is more than the budget; None if it stays under all of them.

        Example:
            >>> from pyro_llm.run_scope import Cost
            >>> Budget(reward_calls=3).exceeded_by(Cost(reward_calls=4))
            'reward_calls'
        """
        return next((item for item, limit in self.limits.items() if self.spent(item, cost) > limit), None)

    def spent(self, item: str, cost: Cost) -> float:
        """How much of an item a cost is."""
        if item == "dollars":
            assert self.prices is not None
            return self.prices.dollars(cost)
        return getattr(cost, item)

    def settings(self) -> dict[str, Any]:
        """The budget as it is reported, items that are not limited left out."""
        return {**self.limits, **({} if self.prices is None else {"prices": self.prices.settings()})}

    def __repr__(self) -> str:
        prices = {} if self.prices is None else {"prices": self.prices}
        return f"Budget({', '.join(f'{item}={limit!r}' for item, limit in {**self.limits, **prices}.items())})"
