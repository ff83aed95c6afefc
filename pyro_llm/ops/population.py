"""The weights of R independent runs of N particles, folded factor by factor and resampled run by run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.errors import AllParticlesDeadError, DeadRunWarning, NonFiniteWeightError
from pyro_llm.ops.islands import Islands
from pyro_llm.ops.lineage import Lineage
from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.resampling_rule import ResamplingRule, checked, ess_below
from pyro_llm.ops.weights import all_dead, effective_sample_size, log_mean_exp, normalise


@dataclass(frozen=True)
class Step:
    """What was recorded when a factor was folded into the weights.

    Attributes:
        name: the observed site (the sites, if several were folded together).
        log_factor: the factor of each particle. Float64 `[R, N]`.
        log_weights: unnormalised log-weights after the factor. Float64 `[R, N]`.
        generation: the number of resamplings before the factor.
        exchanges: the number of exchanges between runs before the factor.
    """

    name: str
    log_factor: Tensor
    log_weights: Tensor
    generation: int
    exchanges: int = 0


@dataclass(frozen=True)
class StepReport:
    """What a progress callback is told after each observed site.

    Attributes:
        step: number of the step, from 1.
        name: the observed site.
        ess: effective sample size of each run. `[R]`.
        log_evidence: log-evidence of each run so far. `[R]`.
        resamplings: how often some run has resampled so far.
    """

    step: int
    name: str
    ess: Tensor
    log_evidence: Tensor
    resamplings: int


@dataclass(frozen=True)
class StepHistory:
    """All steps of a population, stacked: R runs, S steps, N particles.

    Where runs have been exchanged, the history of a run is that of the runs it descends from.

    Attributes:
        ess: Kish effective sample size after the step's factor, before resampling. Float64 `[R, S]`.
        log_evidence_increment: sums over steps to the log-evidence. Float64 `[R, S]`.
        resampled: whether the run was resampled after the step. Bool `[R, S]`.
        ancestors: slot at the step from which each slot after it descends. Int64 `[R, S, N]`.
        log_factor: the factor of each slot at the step. Float64 `[R, S, N]`.
        islands: the run at the step from which each run descends. Int64 `[R, S]`.
        exchanged: whether runs were exchanged after the step. Bool `[S]`.
    """

    ess: Tensor
    log_evidence_increment: Tensor
    resampled: Tensor
    ancestors: Tensor
    log_factor: Tensor
    islands: Tensor
    exchanged: Tensor


class Population:
    r"""Log-weights `[R, N]` in float64 on the CPU, the history of each step, and the lineage.

    A run's evidence estimate is the product over its resamplings, and over what has been folded since the last one, of
    the mean weight: $\hat Z = \prod_k \frac1N \sum_n w_k^n$. It is unbiased whenever the runs resample (Chopin &
    Papaspiliopoulos, "An Introduction to Sequential Monte Carlo", chapter 10).

    Args:
        num_runs: R.
        num_particles: N.
        ess_threshold: a run is resampled when its effective sample size is below this fraction of N; 0 is never, 1 is
            whenever a factor has been folded since the last resampling, even one that is equal for all.
        resampling: name of the resampling scheme.
        on_step: called after each factor.
        resample_when: the rule by which runs are resampled, in place of the one by `ess_threshold`.
        island_threshold: whole runs are resampled by their evidence when the effective sample size of that is below
            this fraction of R (see `Islands`); None is never.
    """

    def __init__(
        self,
        num_runs: int,
        num_particles: int,
        ess_threshold: float,
        resampling: str = "systematic",
        on_step: Callable[[StepReport], None] | None = None,
        resample_when: ResamplingRule | None = None,
        island_threshold: float | None = None,
    ) -> None:
        self.num_runs, self.num_particles, self.ess_threshold = num_runs, num_particles, ess_threshold
        self.log_weights = torch.zeros(num_runs, num_particles, dtype=torch.float64)
        self.lineage = Lineage()
        self.steps: list[Step] = []
        self.islands = Islands(island_threshold)
        self._scheme = resampling_scheme(resampling)
        self._is_degenerate = ess_below(ess_threshold) if resample_when is None else checked(resample_when)
        self._on_step = on_step
        # step -> (resampled [R], ancestors [R, N], exchanges of runs before)
        self._resamplings: dict[int, tuple[Tensor, Tensor, int]] = {}
        self._consumed = torch.zeros(num_runs, dtype=torch.float64)  # log mean weights that resamplings used up
        self._folded = False  # a factor since the last look at the effective sample size

    @property
    def size(self) -> int:
        """Particles of all runs together, R * N; runs are contiguous blocks."""
        return self.num_runs * self.num_particles

    def fold(self, name: str, log_factor: Tensor) -> None:
        """Multiply the weights by a factor, given by its logarithm, of shape `[R, N]` or `[R * N]`.

        A run whose particles all have weight zero is dead: its evidence estimate is 0, as it must be for their mean to
        be unbiased, and the other runs go on. A `DeadRunWarning` says so.

        Raises:
            NonFiniteWeightError: the factor is NaN or plus infinity.
            AllParticlesDeadError: all particles of all runs have weight zero.
        """
        log_factor = log_factor.detach().cpu().double().reshape(self.num_runs, self.num_particles)
        dead_before = all_dead(self.log_weights)
        self.log_weights = self.log_weights + log_factor
        if not bool(torch.isfinite(self.log_weights.amax(-1)).all()):  # also sees NaN, which amax propagates
            self._check_weights(name, log_factor, dead_before)
        exchanges = self.islands.num_exchanges
        self.steps.append(Step(name, log_factor, self.log_weights, self.lineage.generation, exchanges))
        self._folded = True
        if self._on_step is not None:
            ess = effective_sample_size(self.log_weights)
            report = StepReport(len(self.steps), name, ess, self.log_evidence(), len(self._resamplings))
            self._on_step(report)

    def resample_degenerate_runs(self, running: Tensor | None = None) -> bool:
        """Resample the runs whose weights have degenerated; the others keep their particles and weights.

        Before that, whole runs are exchanged if their evidence has become too unequal, and if that was asked for.

        Args:
            running: runs that still go on; the others are left alone, as resampling could only add noise to their
                final weights. Bool `[R]`; all by default.

        Returns:
            Whether any run was resampled, or exchanged.
        """
        if not self._folded:
            return False
        self._folded = False
        last = len(self.steps) - 1
        slots = torch.arange(self.num_runs * self.num_particles).reshape(self.num_runs, self.num_particles)
        exchange = self.islands.exchange(self.log_evidence(), last) if self.islands.enabled else None
        if exchange is not None:
            slots, self.log_weights = slots[exchange.ancestors], self.log_weights[exchange.ancestors]
            self._consumed = self._consumed[exchange.ancestors] + exchange.log_shift
            running = running if running is None else running[exchange.ancestors]
        degenerate = self._is_degenerate(self.log_weights) & ~all_dead(self.log_weights)
        if running is not None:
            degenerate = degenerate & running
        if bool(degenerate.any()):
            resampled = self._scheme(self.log_weights.masked_fill(~degenerate[:, None], 0.0), self.num_particles, None)
            ancestors = torch.where(degenerate[:, None], resampled.ancestors, torch.arange(self.num_particles))
            self._resamplings[last] = (degenerate, ancestors, self.islands.num_exchanges)
            self._consumed = self._consumed + torch.where(degenerate, log_mean_exp(self.log_weights), 0.0)
            self.log_weights = torch.where(degenerate[:, None], resampled.log_weights, self.log_weights)
            slots = slots.gather(-1, ancestors)
        elif exchange is None:
            return False
        self.lineage.resample(slots.flatten())
        return True

    def normalised_log_weights(self) -> Tensor:
        """The final log-weights, normalised in each run. Float64 `[R, N]`."""
        return normalise(self.log_weights)

    def log_evidence(self) -> Tensor:
        """Log of each run's estimate of the evidence of the factors so far. Float64 `[R]`."""
        return self._consumed + log_mean_exp(self.log_weights)

    def log_likelihood(self) -> Tensor:
        """Sum of the log-factors on each particle's lineage. Float64 `[R, N]`."""
        total = torch.zeros(self.size, dtype=torch.float64)
        for step in self.steps:
            total = total + self.lineage.carry(step.log_factor.flatten(), step.generation)
        return total.reshape(self.num_runs, self.num_particles)

    def history(self) -> StepHistory:
        """The recorded steps, stacked."""
        shape = (self.num_runs, len(self.steps), self.num_particles)
        resampled = torch.zeros(shape[:2], dtype=torch.bool)
        ancestors = torch.arange(self.num_particles).expand(shape).clone()
        islands = torch.empty(shape[:2], dtype=torch.int64)
        log_factor = torch.empty(shape, dtype=torch.float64)
        for index, step in enumerate(self.steps):
            log_factor[:, index] = self.islands.present(step.log_factor, step.exchanges)
            islands[:, index] = self.islands.ancestors_at(step.exchanges, self.num_runs)
        for index, (runs, slots, exchanges) in self._resamplings.items():
            resampled[:, index] = self.islands.present(runs, exchanges)
            ancestors[:, index] = self.islands.present(slots, exchanges)
        return StepHistory(
            ess=effective_sample_size(self._stacked_log_weights()),
            log_evidence_increment=self._increments(),
            resampled=resampled,
            ancestors=ancestors,
            log_factor=log_factor,
            islands=islands,
            exchanged=torch.tensor([index in self.islands.exchanges for index in range(shape[1])], dtype=torch.bool),
        )

    def _stacked_log_weights(self) -> Tensor:
        if not self.steps:
            return torch.empty(self.num_runs, 0, self.num_particles, dtype=torch.float64)
        return torch.stack([self.islands.present(step.log_weights, step.exchanges) for step in self.steps], 1)

    def _increments(self) -> Tensor:
        after = log_mean_exp(self._stacked_log_weights())
        before = torch.cat([after.new_zeros(self.num_runs, 1), after[:, :-1]], 1)[:, : after.shape[1]]
        for step, (runs, _, exchanges) in self._resamplings.items():
            if step + 1 < before.shape[1]:
                before[:, step + 1].masked_fill_(self.islands.present(runs, exchanges), 0.0)
        dead = torch.isneginf(before)
        increments = torch.where(dead, 0.0, after - before.masked_fill(dead, 0.0))
        for number, (step, exchange) in enumerate(self.islands.exchanges.items(), start=1):
            increments[:, step] += self.islands.present(exchange.log_shift, number)
        return increments

    def _check_weights(self, name: str, log_factor: Tensor, dead_before: Tensor) -> None:
        where = f"step {len(self.steps) + 1}, site {name!r}"
        bad = torch.isnan(log_factor) | (log_factor == torch.inf)
        if bool(bad.any()):
            count, example = int(bad.sum()), float(log_factor[bad][0])
            raise NonFiniteWeightError(
                f"At {where}, the log-probability of the observation is {example} for {count} of {self.size} "
                "particles. A factor must be a finite number or -inf (impossible): look at the parameters of this "
                "site's distribution, or at the reward that gives them."
            )
        dead = all_dead(self.log_weights)
        advice = (
            "no particle can explain the observations so far. Use more particles, soften the factor (give no reward of "
            "exactly 0), or check that the observation is possible under the program at all."
        )
        if bool(dead.all()):
            of = f" in each of {self.num_runs} runs" if self.num_runs > 1 else ""
            raise AllParticlesDeadError(
                f"At {where}, all {self.num_particles} particles have weight zero{of}: {advice}"
            )
        if newly := int((dead & ~dead_before).sum()):
            warnings.warn(
                f"At {where}, all particles of {newly} of {self.num_runs} runs have weight zero; the other runs go on. "
                f"In a dead run {advice}",
                DeadRunWarning,
                stacklevel=2,
            )
