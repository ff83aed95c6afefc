"""The weights of particles and the evidence of runs, for a posterior that has them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_llm.errors import AllParticlesDeadError, NoScoresError, NoWeightsError
from pyro_llm.infer.markov_chains import MarkovChains
from pyro_llm.infer.readings import LogEvidence
from pyro_llm.infer.searched import Searched
from pyro_llm.infer.stats import StepStats
from pyro_llm.ops.weights import effective_sample_size


class Weighted:
    """R runs of N particles that have weights, or, as the result of a search, scores.

    Args:
        log_weights: float64 `[R, N]`, normalised within each run; None of a search.
        log_evidence: float64 `[R]`; None of a search.
        shape: `(R, N)`.
        searched: what a search scored the particles by; None of what has weights.
    """

    chains: MarkovChains | None
    stats: StepStats

    def __init__(
        self,
        log_weights: Tensor | None,
        log_evidence: Tensor | None,
        shape: Sequence[int],
        searched: Searched | None,
    ) -> None:
        self._shape = _checked_shape(log_weights, log_evidence, shape, searched)
        self._log_weights = None if log_weights is None else log_weights.detach().double().cpu()
        self._log_evidence = None if log_evidence is None else log_evidence.detach().double().cpu()
        self.searched = searched

    @property
    def num_runs(self) -> int:
        """The number of independent runs, R."""
        return self._shape[0]

    @property
    def num_particles(self) -> int:
        """The number of particles of each run, N."""
        return self._shape[1]

    @property
    def is_search(self) -> bool:
        """Whether particles were searched for, and so have no weights: they estimate no expectation."""
        return self.searched is not None

    @property
    def scores(self) -> Tensor:
        """The logarithm of each particle's score, by which a search decides. Float64 `[R, N]`.

        Raises:
            NoScoresError: particles have weights, or nobody scored them (self-consistency by majority).
        """
        if self.searched is None or self.searched.scores is None:
            why = "they have weights, see `log_weights`" if self.searched is None else "each has one vote"
            raise NoScoresError(f"These particles have no scores: {why}.")
        return self.searched.scores

    @property
    def log_weights(self) -> Tensor:
        """Float64 `[R, N]`, normalised within each run.

        Raises:
            NoWeightsError: this is the result of a search.
        """
        if self._log_weights is None:
            raise self._no_weights()
        return self._log_weights

    @log_weights.setter
    def log_weights(self, log_weights: Tensor) -> None:
        self._log_weights = log_weights

    @property
    def log_evidence(self) -> Tensor:
        """Log of each run's estimate of the evidence (of a Markov chain's first iteration). Float64 `[R]`.

        Raises:
            NoWeightsError: this is the result of a search.
        """
        if self._log_evidence is None:
            raise self._no_weights()
        return self._log_evidence

    @log_evidence.setter
    def log_evidence(self, log_evidence: Tensor) -> None:
        self._log_evidence = log_evidence

    @property
    def pooling(self) -> Tensor:
        """Unnormalised log-weights of the runs: their evidence, or 0 for Markov chains, all equal. Float64 `[R]`."""
        return self.log_evidence if self.chains is None else torch.zeros_like(self.log_evidence)

    @property
    def pooled_log_weights(self) -> Tensor:
        """Log of each particle's share of the posterior pooled over runs. Float64 `[R, N]`.

        Raises:
            AllParticlesDeadError: no run has positive evidence.
            NoWeightsError: this is the result of a search.
        """
        if not torch.isfinite(self.log_evidence).any():
            raise AllParticlesDeadError("No run has positive evidence, so there is no posterior to pool.")
        shares = torch.log_softmax(self.pooling, 0)[:, None]
        return torch.where(torch.isneginf(shares), -torch.inf, self.log_weights + shares)

    def ess(self) -> Tensor:
        """Kish effective sample size of each run's final weights, between 1 and N. Float64 `[R]`.

        It counts weights, not histories (see `stats.unique_ancestors`), nor the correlation of a Markov chain's draws.
        """
        return effective_sample_size(self.log_weights)

    def pooled_log_evidence(self) -> LogEvidence:
        """The log-evidence estimated by all runs together, with its standard error if their spread gives one."""
        return LogEvidence.pooled(self.log_evidence, self.stats.founders, self.stats.num_exchanges)

    def _no_weights(self) -> NoWeightsError:
        return NoWeightsError(
            "A search gives particles no weights, so that there is no evidence, effective sample size, marginal or "
            "resampling of them. It has `decision(fn)`, `scores` and `best()`; for an estimate run SMC or Importance."
        )


def _checked_shape(
    log_weights: Tensor | None, log_evidence: Tensor | None, shape: Sequence[int], searched: Searched | None
) -> tuple[int, int]:
    """`(R, N)`, after what weights there are, or by the shape of what a search has."""
    if searched is None:
        weights = None if log_weights is None else tuple(log_weights.shape)
        evidence = None if log_evidence is None else tuple(log_evidence.shape)
        if weights is None or len(weights) != 2 or evidence != weights[:1]:
            raise ValueError(f"log_weights must be [R, N] and log_evidence [R], got {weights}, {evidence}.")
        return weights
    if log_weights is not None or log_evidence is not None:
        raise ValueError("The result of a search has no weights and no evidence.")
    if len(shape) != 2 or (searched.scores is not None and tuple(searched.scores.shape) != tuple(shape)):
        raise ValueError(f"log_prior and scores must be [R, N], got {list(shape)} and {searched}.")
    return shape[0], shape[1]
