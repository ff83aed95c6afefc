"""The weights of R independent runs of N particles, folded factor by factor and resampled run by run."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.errors import AllParticlesDeadError, DeadRunWarning, NonFiniteWeightError
from pyro_llm.ops.lineage import Lineage
from pyro_llm.ops.potential import AuxiliaryPotential
from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.tempering import AdaptiveTempering
from pyro_llm.ops.weights import all_dead, effective_sample_size, log_mean_exp, normalise


@dataclass(frozen=True)
class Step:
    """What was recorded when a factor was folded into the weights.

    Attributes:
        name: the observed site (the sites, if several were folded together).
        log_factor: the factor of each particle. Float64 `[R, N]`.
        log_weights: unnormalised log-weights after the factor. Float64 `[R, N]`.
        log_evidence: each run's estimate of the log-evidence after the factor. Float64 `[R]`.
        generation: the number of resamplings before the factor.
    """

    name: str
    log_factor: Tensor
    log_weights: Tensor
    log_evidence: Tensor
    generation: int


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

    Attributes:
        ess: Kish effective sample size after the step's factor, before resampling. Float64 `[R, S]`.
        log_evidence_increment: sums over steps to the log-evidence. Float64 `[R, S]`.
        resampled: whether the run was resampled after the step. Bool `[R, S]`.
        ancestors: slot at the step from which each slot after it descends. Int64 `[R, S, N]`.
        log_factor: the factor of each slot at the step. Float64 `[R, S, N]`.
    """

    ess: Tensor
    log_evidence_increment: Tensor
    resampled: Tensor
    ancestors: Tensor
    log_factor: Tensor


class Population:
    r"""Log-weights `[R, N]` in float64 on the CPU, the history of each step, and the lineage.

    A run's evidence estimate is the product over its resamplings, and over what has been folded since the last one, of
    the mean weight: $\hat Z = \prod_k \frac1N \sum_n w_k^n$. It is unbiased whenever the runs resample (Chopin &
    Papaspiliopoulos, "An Introduction to Sequential Monte Carlo", chapter 10).

    Resampling goes by the weights times an auxiliary potential, 1 unless something is declared, and divides it out of
    the weights of the offspring (see `pyro_llm.ops.potential`). `log_weights` are always those of the target.

    Args:
        num_runs: R.
        num_particles: N.
        ess_threshold: a run is resampled when its effective sample size is below this fraction of N; 0 is never, 1 is
            whenever a factor has been folded since the last resampling, even one that is equal for all.
        resampling: name of the resampling scheme.
        on_step: called after each factor.
        tempering: whether and how resampling tempers the factors.
    """

    def __init__(
        self,
        num_runs: int,
        num_particles: int,
        ess_threshold: float,
        resampling: str = "systematic",
        on_step: Callable[[StepReport], None] | None = None,
        tempering: AdaptiveTempering | None = None,
    ) -> None:
        self.num_runs, self.num_particles, self.ess_threshold = num_runs, num_particles, ess_threshold
        self.log_weights = torch.zeros(num_runs, num_particles, dtype=torch.float64)
        self.lineage = Lineage()
        self.potential = AuxiliaryPotential(num_runs, num_particles, tempering)
        self.inverse_temperatures: dict[int, Tensor] = {}  # step -> those of the resampling after it [R]
        self.steps: list[Step] = []
        self._scheme = resampling_scheme(resampling)
        self._on_step = on_step
        self._resamplings: dict[int, tuple[Tensor, Tensor]] = {}  # step -> (resampled [R], ancestors [R, N])
        self._consumed = torch.zeros(num_runs, dtype=torch.float64)  # log mean weights that resamplings used up
        self._folded = False  # a factor since the last look at the effective sample size
        self._first_slots = torch.arange(num_runs).unsqueeze(-1) * num_particles

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
        log_factor = self._multiply(name, "log-probability of the observation", log_factor)
        self.potential.fold(log_factor)
        self.steps.append(Step(name, log_factor, self.log_weights, self.log_evidence(), self.lineage.generation))
        self._folded = True
        if self._on_step is not None:
            ess = effective_sample_size(self.log_weights)
            report = StepReport(len(self.steps), name, ess, self.log_evidence(), len(self._resamplings))
            self._on_step(report)

    def reweigh(self, name: str, log_ratio: Tensor) -> None:
        """Multiply the weights by what corrects a draw at a latent site, no step of its own. `[R, N]` or `[R * N]`.

        Raises:
            NonFiniteWeightError: the ratio is NaN or plus infinity.
            AllParticlesDeadError: all particles of all runs have weight zero.
        """
        self._multiply(name, "log-ratio of the distribution to its proposal", log_ratio)

    def declare_potential(self, part: str, name: str, log_potential: Tensor) -> None:
        """Set a part of the auxiliary potential, in place of what it was. `[R, N]` or `[R * N]`.

        Raises:
            NonFiniteWeightError: it is NaN or infinite, minus infinity included, for a particle that is not dead.
        """
        log_potential = log_potential.detach().cpu().double().reshape(self.num_runs, self.num_particles)
        log_potential = log_potential.masked_fill(torch.isneginf(self.log_weights), 0.0)
        bad = ~torch.isfinite(log_potential)
        if bool(bad.any()):
            raise NonFiniteWeightError(
                f"The {part} {name!r} is {float(log_potential[bad][0])} for {int(bad.sum())} of {self.size} particles. "
                "The logarithm of an auxiliary potential must be finite, as resampling divides by it. Where the target "
                "is zero say so by a factor of the program; where it only seems so, bound the potential from below."
            )
        self.potential.declare(part, log_potential)

    @property
    def may_resample(self) -> bool:
        """Whether `resample_degenerate_runs` would look at the weights: if there is a factor since it last did."""
        return self._folded and self.ess_threshold != 0

    def resample_degenerate_runs(self, running: Tensor | None = None) -> bool:
        """Resample the runs whose effective sample size is too low; the others keep their particles and weights.

        Args:
            running: runs that still go on; the others are left alone, as resampling could only add noise to their
                final weights. Bool `[R]`; all by default.

        Returns:
            Whether any run was resampled.
        """
        if not self.may_resample:
            return False
        self._folded = False
        log_weights = self.log_weights + self.potential.declared
        if self.ess_threshold == 1:
            degenerate = torch.ones(self.num_runs, dtype=torch.bool)
        else:
            degenerate = effective_sample_size(log_weights) < self.ess_threshold * self.num_particles
        degenerate = degenerate & ~all_dead(self.log_weights)
        if running is not None:
            degenerate = degenerate & running
        if not bool(degenerate.any()):
            return False
        inverse_temperatures = self.potential.temper(log_weights)
        log_potential = self.potential.at(inverse_temperatures)
        log_weights = self.log_weights + log_potential
        drawn = self._scheme(log_weights.masked_fill(~degenerate[:, None], 0.0), self.num_particles, None)
        ancestors = torch.where(degenerate[:, None], drawn, torch.arange(self.num_particles))
        self._resamplings[len(self.steps) - 1] = (degenerate, ancestors)
        self.inverse_temperatures[len(self.steps) - 1] = torch.where(degenerate, inverse_temperatures, torch.nan)
        self._consumed = self._consumed + torch.where(degenerate, log_mean_exp(log_weights), 0.0)
        offspring = 0.0 - log_potential.gather(-1, ancestors)
        self.log_weights = torch.where(degenerate[:, None], offspring, self.log_weights)
        self.potential.resample(ancestors, degenerate, inverse_temperatures)
        self.lineage.resample((ancestors + self._first_slots).flatten())
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
        for step, (runs, slots) in self._resamplings.items():
            resampled[:, step], ancestors[:, step] = runs, slots
        return StepHistory(
            ess=effective_sample_size(self._stacked_log_weights()),
            log_evidence_increment=self._increments(),
            resampled=resampled,
            ancestors=ancestors,
            log_factor=torch.stack([step.log_factor for step in self.steps], 1) if self.steps else torch.empty(shape),
        )

    def _stacked_log_weights(self) -> Tensor:
        if not self.steps:
            return torch.empty(self.num_runs, 0, self.num_particles, dtype=torch.float64)
        return torch.stack([step.log_weights for step in self.steps], 1)

    def _increments(self) -> Tensor:
        """Differences of the evidence; what a resampling by a potential changes in it counts for the next step."""
        if not self.steps:
            return torch.empty(self.num_runs, 0, dtype=torch.float64)
        after = torch.stack([*(step.log_evidence for step in self.steps[:-1]), self.log_evidence()], 1)
        before = torch.cat([after.new_zeros(self.num_runs, 1), after[:, :-1]], 1)
        dead = torch.isneginf(before)
        return torch.where(dead, 0.0, after - before.masked_fill(dead, 0.0))

    def _multiply(self, name: str, what: str, log_factor: Tensor) -> Tensor:
        """Multiply the weights, checked; returns the log-factor as float64 `[R, N]`."""
        log_factor = log_factor.detach().cpu().double().reshape(self.num_runs, self.num_particles)
        dead_before = all_dead(self.log_weights)
        self.log_weights = self.log_weights + log_factor
        if not bool(torch.isfinite(self.log_weights.amax(-1)).all()):  # also sees NaN, which amax propagates
            self._check_weights(name, what, log_factor, dead_before)
        return log_factor

    def _check_weights(self, name: str, what: str, log_factor: Tensor, dead_before: Tensor) -> None:
        where = f"step {len(self.steps) + 1}, site {name!r}"
        bad = torch.isnan(log_factor) | (log_factor == torch.inf)
        if bool(bad.any()):
            count, example = int(bad.sum()), float(log_factor[bad][0])
            raise NonFiniteWeightError(
                f"At {where}, the {what} is {example} for {count} of {self.size} "
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
