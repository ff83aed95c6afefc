"""A budget from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.prices import Prices


def read_budget(items: Sequence[str], prices: Path | None) -> Budget | None:
    """The budget of options `--budget ITEM=LIMIT` and `--prices FILE`; None if there are none.

    Raises:
        OptionError: an item is none, comes twice or has no number, or there are prices or dollars without the other.

    Example:
        >>> read_budget(["lm_tokens=20_000", "seconds=1.5"], None)
        Budget(lm_tokens=20000, seconds=1.5)
    """
    if not items and prices is None:
        return None
    limits: dict[str, float] = {}
    for item in items:
        name, _, limit = item.partition("=")
        if name in limits:
            raise OptionError(f"--budget {item}: {name} has a limit already.")
        if name not in Budget.items():
            raise OptionError(f"--budget {item}: there is no item {name!r}; choose of {', '.join(Budget.items())}.")
        limits[name] = _number(item, limit)
    if "dollars" in limits and prices is None:
        raise OptionError("--budget dollars=... cannot be counted without prices: give them by --prices prices.json.")
    return Budget(**limits, prices=None if prices is None else Prices.load(prices))  # type: ignore[arg-type]


def _number(item: str, limit: str) -> float:
    for kind in (int, float):
        try:
            return kind(limit)
        except ValueError:
            continue
    raise OptionError(f"--budget {item}: give a number, as in --budget lm_tokens=20000.")
