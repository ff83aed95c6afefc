"""What every inference algorithm returns: weighted particles of independent runs, and how they came about."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_llm.errors import NoChainsError
from pyro_llm.infer.best import Score, best_particle
from pyro_llm.infer.decision import decide
from pyro_llm.infer.marginal import Marginal, pooled_marginal
from pyro_llm.infer.markov_chains import MarkovChains, update_rates
from pyro_llm.infer.particle_values import values_of
from pyro_llm.infer.presented import Presented
from pyro_llm.infer.readings import Particle, Texts, no_texts
from pyro_llm.infer.resample import resampled
from pyro_llm.infer.searched import Searched
from pyro_llm.infer.stats import StepStats
from pyro_llm.infer.weighted import Weighted
from pyro_llm.run_scope import Cost


class Posterior(Presented, Weighted):
    """Weighted particles from R independent runs of N particles each.

    Algorithms make posteriors; users read them. Runs are islands: each estimates the evidence by itself, they are
    pooled in proportion to it, and their spread gives the error bars (where runs were exchanged, that of the runs that
    they descend from). If `chains` is set, runs are Markov chains, particles are successive draws of equal weight (or
    whole weighted populations), and chains are pooled equally. If `is_search`, particles have scores and no weights:
    what needs weights raises `NoWeightsError`.

    Attributes:
        samples: latent sites by name, each `[R, N, ...]`; texts as token ids, padded on the right with -1.
        returns: what the model returned, its batch reshaped to `[R, N]`. A plain tensor is taken to be per particle if
            its leftmost dimension has R * N entries; as a NumPy array, what all particles share is left alone even if
            it has that size by chance. None after `load`, unless a tensor.
        not_saved: after `load`, the type of a return value that the file does not hold; else None.
        log_weights: float64 `[R, N]`, normalised within each run.
        log_evidence: log of each run's estimate of the evidence (of a Markov chain's first iteration). Float64 `[R]`.
        log_prior: log-probability of each particle's latent values. Float64 `[R, N]`.
        log_likelihood: log-probability of the observations given each particle; NaN if no factor was asked for.
            Float64 `[R, N]`.
        stats: what was recorded at each observed site; without steps for Markov chains.
        observed: values of the observed sites by name.
        cost: what the runs spent together.
        settings: the algorithm's name under `"algorithm"`, its options, seeds, versions.
        chains: what Markov chains recorded at each draw; None for weighted particles.
        searched: what a search scored the particles by, and decides by; None for particles that have weights.
        missing: which particles did not meet a latent site, so that its value is padding (NaN, -1 in integers): bool
            `[R, N]` by name, of those sites that some particle lacks.

    Examples:
        >>> import math, pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import Importance
        >>> def two_dice(total):
        ...     first = pyro.sample("first", dist.Categorical(torch.ones(6))) + 1
        ...     second = pyro.sample("second", dist.Categorical(torch.ones(6))) + 1
        ...     pyro.sample("total", dist.Delta(first + second), obs=total)
        ...     return first
        >>> pyro.set_rng_seed(0)
        >>> posterior = Importance(two_dice, num_particles=1000, num_runs=4).run(torch.tensor(11))
        >>> sorted(posterior.marginal())
        [5, 6]
        >>> abs(posterior.pooled_log_evidence().estimate - math.log(1 / 18)) < 0.2
        True
    """

    def __init__(
        self,
        *,
        samples: dict[str, Tensor],
        returns: Any,
        log_weights: Tensor | None,
        log_evidence: Tensor | None,
        log_prior: Tensor,
        log_likelihood: Tensor,
        stats: StepStats,
        observed: dict[str, Tensor],
        cost: Cost,
        settings: dict[str, Any],
        written: Texts | None = None,
        chains: MarkovChains | None = None,
        not_saved: str | None = None,
        searched: Searched | None = None,
        missing: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__(log_weights, log_evidence, log_prior.shape, searched)
        shape = self._shape
        by_particle = {"log_prior": log_prior, "log_likelihood": log_likelihood, **samples}
        for name, tensor in by_particle.items():
            if (actual := tuple(tensor.shape))[:2] != shape:
                raise ValueError(f"{name!r} has shape {actual}, expected [R, N] = {list(shape)} on its left.")
        self.samples = samples
        self.returns = returns
        self.log_prior = log_prior.detach().double().cpu()
        self.log_likelihood = log_likelihood.detach().double().cpu()
        self.stats = stats
        self.observed = observed
        self.cost = cost
        self.settings = settings
        self.chains = chains
        self.not_saved = not_saved
        self.missing = missing or {}
        self._written = written

    @property
    def stopped_by(self) -> str | None:
        """The item of the budget that ended the run, such as `"lm_tokens"`; None if it came to its end.

        `"reward"` of what a run had before a reward failed, `RewardError.posterior`.
        """
        return self.settings.get("stopped_by")

    @property
    def has_texts(self) -> bool:
        """Whether the model returned a `TextState`, or a program executed once for each particle one for each."""
        return self._written is not None or Texts.are_in(self.returns)

    @cached_property
    def written(self) -> Texts:
        """The prompt, and what each particle wrote after it.

        Raises:
            NoTextError: the model does not return a `TextState`.
        """
        if not self.has_texts:
            raise no_texts(self.returns, self.not_saved)
        return self._written if self._written is not None else Texts.of(self.returns)

    @property
    def texts(self) -> np.ndarray:
        """The text of each particle since the prompt, as an object array of `str`. `[R, N]`.

        `[R, N, ...]` where the model's plates give each particle several.

        Raises:
            NoTextError: the model does not return a `TextState`.
        """
        return self.written.texts

    @property
    def lp(self) -> Tensor:
        """Log joint density of each particle and the observations. Float64 `[R, N]`."""
        return self.log_prior + self.log_likelihood

    @property
    def has_populations(self) -> bool:
        """Whether it holds the weighted populations of a Markov chain's sweeps."""
        return self.chains is not None and self.chains.iterations is not None

    def update_rates(self) -> dict[str, Tensor]:
        """How often each site's value differs from that of the draw before, by Markov chain. Each float64 `[R]`.

        Whole populations (`keep="population"`) are no successive draws: theirs mean nothing.

        Raises:
            NoChainsError: the particles are no draws of a Markov chain.
        """
        if self.chains is None:
            raise NoChainsError(
                "Only `ParticleGibbs` and `ParallelTempering` make the Markov chains that have update rates."
            )
        return update_rates(self.samples)

    def marginal(self, fn: Callable[[Any], Hashable] | None = None, of: str | None = None) -> Marginal:
        """The posterior distribution of a function of the particles, pooled over runs by evidence.

        Args:
            fn: maps a particle's text (its return value where there are no texts, its value at site `of` where that
                is named) to something hashable; called once for each distinct text. Where plates give a particle
                several texts, their tuple. Default: the value itself.
            of: a latent site to look at instead. Particles executed one by one, and iterations of a Markov chain, may
                lack it: their value is then None, and `fn` is not called.

        Returns:
            Probabilities by value, the highest first, with their standard errors over runs (see `Marginal`).

        Raises:
            KeyError: there is no latent site `of`.
            NoTextError: the model returns nothing, and no site is named; or `fn` is for texts, and there are none.
            TypeError: `fn` is no function, or returns something that cannot be hashed.
            NoWeightsError: this is the result of a search; see `decision`.
        """
        self.pooled_log_weights  # noqa: B018 - raises if there is nothing to pool
        values = values_of(self, fn, of)
        stats = self.stats
        return pooled_marginal(values, self.log_weights, self.pooling, stats.founders, stats.num_exchanges)

    def decision(self, fn: Callable[[Any], Hashable] | None = None) -> Any:
        """The value of `fn` that the algorithm would give: a single answer, where one is wanted.

        With weights it is the most probable value of the pooled marginal. A search decides by its own rule: best-of-N,
        beam search and the like by the highest score of any particle, weighted best-of-N by the highest sum of scores,
        self-consistency by votes; particles of all runs are taken together. Of equal values the one met first.

        Args:
            fn: as in `marginal`, such as `pyro_llm.answer`.

        Returns:
            The value. None (no answer) only if no particle, of positive weight, has another value.

        Raises:
            AllParticlesDeadError: no run has positive evidence.
            NoTextError: the model returns nothing.
            TypeError: `fn` returns something that cannot be hashed.
        """
        return decide(self, fn)

    def best(self, by: Score | None = None, where: Callable[[Any], bool] | None = None) -> Particle:
        """The particle of positive weight with the highest score: an example to read, and no estimate.

        Scores are sums over a text's steps, so that `"log_likelihood"`, with a reward at each step, and `"lp"` favour
        short texts. The most probable answer is `marginal(fn).most_probable(1)`; `where` finds a text that states it.

        Args:
            by: `"score"`, that of a search, for which it is the default; `"log_likelihood"`, the default otherwise, of
                the observations (of acceptance at every step; with `emission="potential"` of the whole text's alone);
                `"log_weight"`, the share of the pooled posterior; `"lp"`, prior and likelihood together.
            where: which particles to choose among, a condition on a particle's text (its return value where there are
                no texts), such as `lambda text: answer(text) == "95"`. Default: all.

        Raises:
            AllParticlesDeadError: no run has positive evidence.
            NoScoresError: the search has not asked for what `by` says, or a latent site without density is in it.
            ValueError: `by` names no score, or no particle of positive weight fulfils `where`.
        """
        return best_particle(self, by, where)

    def resample(self, num_particles: int, generator: torch.Generator | None = None) -> Posterior:
        """Equally weighted draws from the posterior pooled over runs, as a posterior of a single run.

        For what takes draws as equally weighted (`az.summary`, say). The history by step is not carried over.

        Args:
            num_particles: the number of draws.
            generator: the source of randomness; torch's global generator by default.

        Raises:
            AllParticlesDeadError: no run has positive evidence.
            OptionError: `num_particles` is no integer of at least 1.
        """
        return resampled(self, num_particles, generator)
