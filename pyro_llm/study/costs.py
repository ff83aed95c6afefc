"""What a run has cost, in each kind of budget."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pyro_llm.study.rows import Row

COST_KINDS: Mapping[str, str] = {
    "generations": "generations",
    "lm_tokens": "LM tokens",
    "total_tokens": "LM and reward tokens",
    "reward_tokens": "reward tokens",
    "seconds": "seconds",
}
"""Kinds by name, with what they are called on an axis."""


def cost_of(row: Row, kind: str) -> float:
    """What a run has cost, for one problem; NaN if it failed, or the kind was not counted.

    LM tokens are those that language models read or wrote, each once: forwarded ones and sampled ones, less those that
    were both.
    """
    if row.cost is None:
        return math.nan
    if kind == "seconds":
        return math.nan if row.seconds is None else row.seconds
    if kind == "generations":
        nominal = row.budget if row.kind == "generations" else math.nan
        return row.cost.get("generations", nominal)
    lm_tokens = max(row.cost["lm_tokens_forwarded"], row.cost["lm_tokens_sampled"])
    return {
        "lm_tokens": lm_tokens,
        "reward_tokens": row.cost["reward_tokens"],
        "total_tokens": lm_tokens + row.cost["reward_tokens"],
    }[kind]
