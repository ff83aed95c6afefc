"""Language models in the service of a reward: what they cost is the reward's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyro_llm.run_scope import current_cost


@contextmanager
def charged_to_reward() -> Iterator[None]:
    """Count what language models read within the block as reward calls and reward tokens."""
    cost = current_cost()
    calls, tokens = cost.lm_calls, cost.lm_tokens_forwarded
    try:
        yield
    finally:
        cost.reward_calls += cost.lm_calls - calls
        cost.reward_tokens += cost.lm_tokens_forwarded - tokens
        cost.lm_calls, cost.lm_tokens_forwarded = calls, tokens
