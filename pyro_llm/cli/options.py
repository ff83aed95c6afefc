"""What a user may choose for a solution."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SolveOptions:
    """The options of `pyro-llm solve`, checked and with the seed drawn."""

    lm: str
    reward: str
    max_steps: int
    max_tokens: int
    temperature: float
    stop: str
    device: str | None
    dtype: str | None
    particles: int
    runs: int
    ess_threshold: float
    seed: int
