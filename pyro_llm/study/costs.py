"""What a run has cost, in each kind of budget."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields

from pyro_llm.prices import Prices
from pyro_llm.run_scope import Cost
from pyro_llm.study.rows import Row

COST_KINDS: Mapping[str, str] = {
    "generations": "generations",
    "lm_tokens": "LM tokens",
    "total_tokens": "LM and reward tokens",
    "reward_tokens": "reward tokens",
    "seconds": "seconds",
    "dollars": "dollars",
}
"""Kinds by name, with what they are called on an axis."""


_COUNTED = {field.name for field in fields(Cost)}


def cost_of(row: Row, kind: str, prices: Prices | None = None) -> float:
    """What a run has cost, for one problem; NaN if it failed, or the kind was not counted.

    LM tokens are those that language models read or wrote (`Cost.lm_tokens`). Dollars need prices.
    """
    if row.cost is None or (kind == "dollars" and prices is None):
        return math.nan
    numbers = {name: value for name, value in row.cost.items() if name in _COUNTED}
    cost = Cost.restored(numbers | {"seconds": row.seconds or 0.0})
    if kind == "total_tokens":
        return cost.lm_tokens + cost.reward_tokens
    return prices.dollars(cost) if kind == "dollars" and prices is not None else getattr(cost, kind)
