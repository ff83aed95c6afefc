"""All comparisons, in the order of the table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from benchmarks.runtime import (
    bare_loop,
    growth,
    its_hub,
    kalman,
    memory,
    overhead,
    precision,
    reward_tokens,
    token_level,
)
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.results import Comparison


@dataclass(frozen=True)
class Entry:
    """A comparison, and the modules of peers that it needs."""

    compare: Callable[[Plan], Comparison]
    peers: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Peers that are not installed."""
        return [peer for peer in self.peers if find_spec(peer) is None]


COMPARISONS = {
    "bare_loop": Entry(bare_loop.compare),
    "its_hub": Entry(its_hub.compare, its_hub.PEERS),
    "token_level": Entry(token_level.compare, token_level.PEERS),
    "overhead": Entry(overhead.compare),
    "reward_tokens": Entry(reward_tokens.compare),
    "growth": Entry(growth.compare),
    "memory": Entry(memory.compare),
    "kalman": Entry(kalman.compare),
    "precision": Entry(precision.compare),
}
