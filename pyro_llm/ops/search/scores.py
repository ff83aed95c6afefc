"""One score of a particle from the factors of its steps."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pyro_llm.errors import NonFiniteWeightError, OptionError

ScoreName = Literal["last", "product", "min", "mean", "lp"]


class Scores:
    r"""Logarithms of the scores of P particles, kept up as their factors come.

    With $g_1, \dots, g_T$ the factors that have judged a particle (probabilities of acceptance, where rewards are
    Bernoulli factors), its score is

    - `"last"`: $g_T$;
    - `"product"`: $\prod_t g_t$, the likelihood;
    - `"min"`: $\min_t g_t$;
    - `"mean"`: $\frac1T \sum_t g_t$;
    - `"lp"`: $p(x) \prod_t g_t$, the joint density with the latent values.

    The names are those of `pyro_llm.rewards.Aggregation`. A factor that the program masks has not judged the particle:
    the score of a text that has finished stands. A particle that nothing has judged has score 1.

    Args:
        score: which.
        size: P.

    Example:
        >>> scores = Scores("mean", 2)
        >>> scores.fold(torch.tensor([0.2, 0.5]).log(), judged=None)
        >>> scores.fold(torch.tensor([0.4, 0.1]).log(), judged=torch.tensor([True, False]))
        >>> scores.values.exp()
        tensor([0.3000, 0.5000], dtype=torch.float64)
    """

    def __init__(self, score: ScoreName, size: int) -> None:
        self.score = score
        self._value = torch.zeros(size, dtype=torch.float64)
        self._judged = torch.zeros(size, dtype=torch.int64)  # factors so far

    @property
    def values(self) -> Tensor:
        """The logarithm of each particle's score. Float64 `[P]`.

        Raises:
            NonFiniteWeightError: the score is `"lp"`, and the log-probability of a latent value is not known.
        """
        if self.score == "mean":
            return self._value - self._judged.clamp(min=1).double().log()
        check_known(self._value, 'choose another score than "lp".')
        return self._value

    def fold(self, log_factor: Tensor, judged: Tensor | None) -> None:
        """Take in the factor of a step.

        Args:
            log_factor: its logarithm. Float64 `[P]`.
            judged: the particles that it has judged. Bool `[P]`; None for all.
        """
        judged = torch.ones_like(log_factor, dtype=torch.bool) if judged is None else judged
        before, first = self._value, self._judged == 0
        if self.score == "last":
            after = log_factor.double()
        elif self.score == "min":
            after = torch.where(first, log_factor, torch.minimum(before, log_factor))
        elif self.score == "mean":
            after = torch.where(first, log_factor, torch.logaddexp(before, log_factor))
        else:
            after = before + log_factor
        self._value = torch.where(judged, after, before)
        self._judged = self._judged + judged

    def note_draw(self, log_prob: Tensor) -> None:
        """Take in the log-probability of a latent value, of each particle. Float64 `[P]`."""
        if self.score == "lp":
            self._value = self._value + log_prob

    def select(self, ancestors: Tensor) -> None:
        """Go on with the scores of these particles. Int64 `[P]`."""
        self._value, self._judged = self._value[ancestors], self._judged[ancestors]


def check_known(log_density: Tensor, advice: str) -> None:
    """Raise NonFiniteWeightError where a density that particles are to be compared by is not known (NaN)."""
    if log_density.isnan().any():
        raise NonFiniteWeightError(
            "The joint density of some particles is not known, as a latent site's distribution has no log_prob: "
            f"{advice}"
        )


def check_score(score: Any) -> None:
    """Raise OptionError for a score that does not exist."""
    if score not in get_args(ScoreName):
        known = ", ".join(map(repr, get_args(ScoreName)))
        raise OptionError(f"There is no score {score!r}; choose one of {known}.")
