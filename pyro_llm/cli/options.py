"""What a user may choose for a solution."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_llm.budget import Budget
    from pyro_llm.cli.votes import KnownVotes
    from pyro_llm.rewards import Calibration

_WITHOUT_EFFECT = ("device", "seed", "seed_was_given")


@dataclass(frozen=True)
class SolveOptions:
    """The options of `pyro-llm solve`, checked and with the seed drawn."""

    lm: str
    reward: str
    max_steps: int
    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: str
    device: str | None
    dtype: str | None
    particles: int
    runs: int
    ess_threshold: float
    seed: int
    seed_was_given: bool
    calibration: Calibration | None = None
    budget: Budget | None = None
    votes: KnownVotes | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Those that, with the problem and the seed, the posterior depends on."""
        names = [field.name for field in fields(self) if field.name not in _WITHOUT_EFFECT]
        settings = {name: getattr(self, name) for name in names}
        if self.calibration is not None:  # its parameters, as the file may change
            settings["calibration"] = json.loads(self.calibration.model_dump_json())
        settings["budget"] = None if self.budget is None else self.budget.settings()
        settings["votes"] = None if self.votes is None else self.votes.settings
        return settings

    def seed_of(self, identifier: str) -> int:
        """The seed of one problem of a file: another for each, wherever it stands in the file."""
        digest = hashlib.sha256(f"{self.seed}:{identifier}".encode()).digest()
        return int.from_bytes(digest[:4], "big")
