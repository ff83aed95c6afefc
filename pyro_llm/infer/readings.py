"""Small results that are read off a posterior."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyro_llm.errors import NoTextError
from pyro_llm.infer.runs import spread_is_known
from pyro_llm.ops.variance import relative_variance


@dataclass(frozen=True)
class LogEvidence:
    """The log of the mean evidence over runs.

    Attributes:
        estimate: log of the mean of Z over runs (the mean is unbiased for the evidence, its log is not).
        standard_error: by the delta method over runs, sd(Z) / (√R mean(Z)); NaN for a single run, and where one run
            holds nearly all the evidence (see `pyro_llm.infer.runs`). Where runs were exchanged it is Lee and
            Whiteley's, with runs as particles (`pyro_llm.ops.variance.relative_variance`); NaN where that is negative,
            too few runs being left to tell: exchange a hundred runs, not ten, if the error matters.
    """

    estimate: float
    standard_error: float

    @classmethod
    def pooled(
        cls, log_evidence: Tensor, founders: NDArray[np.int64] | None = None, num_exchanges: int = 0
    ) -> LogEvidence:
        """From each run's log-evidence.

        Args:
            log_evidence: `[R]`.
            founders: the first run from which each run descends; itself unless runs were exchanged. `[R]`.
            num_exchanges: how often they were.
        """
        estimate = float(torch.logsumexp(log_evidence, 0)) - math.log(len(log_evidence))
        if not spread_is_known(log_evidence):
            return cls(estimate, math.nan)
        if num_exchanges == 0 or founders is None:
            relative = torch.exp(log_evidence - estimate)
            return cls(estimate, float(relative.std()) / math.sqrt(len(log_evidence)))
        families, exchanges = torch.from_numpy(founders)[None], torch.tensor([num_exchanges])
        variance = float(relative_variance(log_evidence[None], families, exchanges))
        return cls(estimate, math.sqrt(variance) if variance >= 0 else math.nan)

    def __str__(self) -> str:
        return f"{self.estimate:.2f}" + ("" if math.isnan(self.standard_error) else f" ± {self.standard_error:.2f}")


@dataclass(frozen=True)
class Particle:
    """One particle of a posterior.

    Attributes:
        run: its run.
        particle: its slot in the run.
        value: its part of the model's return value; its text where that is a `TextState`.
        text: its text, None where the model returns none; a tuple of them where plates give it several.
        log_weight: log of its share of the posterior pooled over runs.
        log_likelihood: log-probability of the observations given the particle.
        lp: log-probability of particle and observations together.
    """

    run: int
    particle: int
    value: Any
    text: str | tuple[Any, ...] | None
    log_weight: float
    log_likelihood: float
    lp: float


@dataclass(frozen=True, eq=False)
class Texts:
    """What the particles wrote.

    Attributes:
        prompt: the prompt as the user gave it; None if unknown.
        texts: each particle's text since the prompt. Object array of `str`, `[R, N]`; `[R, N, ...]` where plates of
            the model give each particle several.
        lengths: tokens of each. Int64, of the same shape.
        finished: which had come to their end. Bool, of the same shape; None if that is not known.
    """

    prompt: str | None
    texts: np.ndarray
    lengths: NDArray[np.int64]
    finished: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, state: Any) -> Texts:
        """The texts of a `TextState` of batch shape `[R, N, ...]`, or of an object array `[R, N]` of states.

        Dimensions of plates that the state is not in have size 1, and go. States in an array had prompts of their own,
        being executed one by one.
        """
        if isinstance(state, np.ndarray):
            return cls._of_states(state)
        shape = state.texts.shape
        shape = shape[:2] if math.prod(shape[2:]) == 1 else shape
        finished = getattr(state, "finished", None)
        return cls(
            prompt=getattr(state, "prompt", None),
            texts=state.texts.reshape(shape),
            lengths=state.lengths.cpu().numpy().reshape(shape),
            finished=None if finished is None else finished.cpu().numpy().reshape(shape),
        )

    @staticmethod
    def are_in(returns: Any) -> bool:
        """Whether `returns` is what `of` takes."""
        if not isinstance(returns, np.ndarray) or returns.dtype != object or not returns.size:
            return hasattr(returns, "texts")
        states = list(returns.flat)
        # Of the type: to ask a state itself would decode its texts.
        return all(hasattr(type(state), "texts") for state in states) and len({s.lengths.shape for s in states}) == 1

    @classmethod
    def _of_states(cls, states: np.ndarray) -> Texts:
        shape = (*states.shape, *states.flat[0].texts.shape)
        return cls(
            prompt=None,
            texts=np.stack([state.texts for state in states.flat]).reshape(shape),
            lengths=np.stack([state.lengths.cpu().numpy() for state in states.flat]).reshape(shape),
            finished=np.stack([state.finished.cpu().numpy() for state in states.flat]).reshape(shape),
        )

    @property
    def single(self) -> bool:
        """Whether each particle has one text."""
        return self.texts.ndim == 2

    def of_particle(self, run: int, particle: int) -> Any:
        """The text of one particle; a tuple of its texts, nested for several plates, where it has several."""
        return _as_tuples(self.texts[run, particle])

    @property
    def by_particle(self) -> list[list[Any]]:
        """What `of_particle` gives for each, `[R][N]`."""
        return [[_as_tuples(value) for value in row] for row in self.texts]

    def take(self, index: NDArray[np.int64]) -> Texts:
        """The texts of particles, by their flattened positions, as a single run."""
        of_plates = self.texts.shape[2:]

        def taken(values: np.ndarray) -> np.ndarray:
            return values.reshape(-1, *of_plates)[index][None]

        finished = None if self.finished is None else taken(self.finished)
        return Texts(self.prompt, taken(self.texts), taken(self.lengths), finished)


def no_texts(returns: Any, not_saved: str | None) -> NoTextError:
    """The error for asking texts of a model that returned something else, `not_saved` its type if a file lacks it."""
    if not_saved is not None:
        what = f"The model returned a {not_saved}, which files do not hold (they hold texts and tensors)"
    else:
        what = f"The model returned {'nothing' if returns is None else f'a {type(returns).__name__}'}"
        what += ", which has no texts"
    return NoTextError(
        f"{what}. Return the TextState, and nothing else, from the model, or look at a latent site: "
        '`posterior.marginal(fn, of="site")`.'
    )


def _as_tuples(texts: Any) -> Any:
    return tuple(map(_as_tuples, texts)) if isinstance(texts, np.ndarray) else texts
