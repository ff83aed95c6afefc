"""Language models in the service of a reward: what they cost is the reward's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyro_llm.run_scope import spending_scope


@contextmanager
def charged_to_reward() -> Iterator[None]:
    """Count what language models read within the block as reward calls and reward tokens."""
    scope = spending_scope()
    cost, outside = scope.cost, scope.kept_from_reward
    calls, tokens, read = scope.kept_from_reward = cost.lm_calls, cost.lm_tokens_forwarded, cost.lm_tokens_read
    try:
        yield
    finally:
        scope.kept_from_reward = outside
        cost.reward_calls += cost.lm_calls - calls
        cost.reward_tokens += cost.lm_tokens_forwarded - tokens
        cost.lm_calls, cost.lm_tokens_forwarded, cost.lm_tokens_read = calls, tokens, read
