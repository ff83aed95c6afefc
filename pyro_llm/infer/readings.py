"""Small results that are read off a posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_llm.ops.variance import relative_variance


@dataclass(frozen=True)
class LogEvidence:
    """The log of the mean evidence over runs.

    Attributes:
        estimate: log of the mean of Z over runs (the mean is unbiased for the evidence, its log is not).
        standard_error: by the delta method over runs, sd(Z) / (√R mean(Z)); NaN for a single run. Where runs were
            exchanged it is Lee and Whiteley's, with runs as particles (`pyro_llm.ops.variance.relative_variance`);
            NaN where that is negative, too few runs being left to tell: exchange a hundred runs, not ten, if the error
            matters.
    """

    estimate: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.estimate:.2f}" + ("" if math.isnan(self.standard_error) else f" ± {self.standard_error:.2f}")


def pooled_log_evidence(log_evidence: Tensor, founders: NDArray[np.int64], num_exchanges: int) -> LogEvidence:
    """The log of the mean of the evidence of R runs, with its standard error (see `LogEvidence`).

    Args:
        log_evidence: `[R]`.
        founders: the first run from which each run descends; itself unless runs were exchanged. `[R]`.
        num_exchanges: how often they were.
    """
    num_runs = log_evidence.shape[0]
    estimate = float(torch.logsumexp(log_evidence, 0)) - math.log(num_runs)
    if num_runs == 1 or not math.isfinite(estimate):
        return LogEvidence(estimate, math.nan)
    if num_exchanges == 0:
        relative = torch.exp(log_evidence - estimate)
        return LogEvidence(estimate, float(relative.std()) / math.sqrt(num_runs))
    families, exchanges = torch.from_numpy(founders)[None], torch.tensor([num_exchanges])
    variance = float(relative_variance(log_evidence[None], families, exchanges))
    return LogEvidence(estimate, math.sqrt(variance) if variance >= 0 else math.nan)


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
