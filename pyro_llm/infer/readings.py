"""Small results that are read off a posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LogEvidence:
    """The log of the mean evidence over runs.

    Attributes:
        estimate: log of the mean of Z over runs (the mean is unbiased for the evidence, its log is not).
        standard_error: by the delta method over runs, sd(Z) / (√R mean(Z)); NaN for a single run.
    """

    estimate: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.estimate:.2f}" + ("" if math.isnan(self.standard_error) else f" ± {self.standard_error:.2f}")


@dataclass(frozen=True)
class Particle:
    """One particle of a posterior.

    Attributes:
        run: its run.
        particle: its slot in the run.
        value: its part of the model's return value; its text where that is a `TextState`.
        text: its text, None where the model returns none.
        log_weight: log of its share of the posterior pooled over runs.
        log_likelihood: log-probability of the observations given the particle.
        lp: log-probability of particle and observations together.
    """

    run: int
    particle: int
    value: Any
    text: str | None
    log_weight: float
    log_likelihood: float
    lp: float


@dataclass(frozen=True, eq=False)
class Texts:
    """What the particles wrote.

    Attributes:
        prompt: the prompt as the user gave it; None if unknown.
        texts: each particle's text since the prompt. Object array of `str`, `[R, N]`.
        lengths: tokens of each. Int64 `[R, N]`.
    """

    prompt: str | None
    texts: np.ndarray
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, state: Any) -> Texts:
        """The texts of a `TextState` of batch shape `[R, N]`."""
        return cls(getattr(state, "prompt", None), state.texts, state.lengths.cpu().numpy())

    def take(self, index: NDArray[np.int64]) -> Texts:
        """The texts at flattened positions, as a single run."""
        return Texts(self.prompt, self.texts.reshape(-1)[index][None], self.lengths.reshape(-1)[index][None])
