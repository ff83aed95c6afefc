"""The weights of R independent runs of N particles, folded factor by factor and resampled run by run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from pyro_llm.errors import AllParticlesDeadError, DeadRunWarning, NonFiniteWeightError
from pyro_llm.ops.islands import Islands
from pyro_llm.ops.lineage import Lineage
from pyro_llm.ops.potential import AuxiliaryPotential
from pyro_llm.ops.resampling import Resampled, resampling_scheme
from pyro_llm.ops.resampling_rule import ResamplingRule, checked, ess_below
from pyro_llm.ops.steps import Resampling, Step, StepHistory, StepReport
from pyro_llm.ops.tempering import AdaptiveTempering
from pyro_llm.ops.weights import all_dead, check_log_factor, effective_sample_size, log_mean_exp, normalise


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
        resample_when: the rule by which runs are resampled, in place of the one by `ess_threshold`.
        island_threshold: whole runs are resampled by their evidence when the effective sample size of that is below
            this fraction of R (see `Islands`); None is never.
        monitor: called with this population after each factor. Unlike `on_step` it is no function from outside.
    """

    def __init__(
        self,
        num_runs: int,
        num_particles: int,
        ess_threshold: float,
        resampling: str = "systematic",
        on_step: Callable[[StepReport], None] | None = None,
        tempering: AdaptiveTempering | None = None,
        resample_when: ResamplingRule | None = None,
        island_threshold: float | None = None,
        monitor: Callable[[Population], None] | None = None,
    ) -> None:
        self.num_runs, self.num_particles = num_runs, num_particles
        self.log_weights = torch.zeros(num_runs, num_particles, dtype=torch.float64)
        self._own_slots = torch.arange(num_particles)
        self._first_slots = torch.arange(num_runs)[:, None] * num_particles  # of each run, in the flat population
        self.lineage = Lineage()
        self.potential = AuxiliaryPotential(num_runs, num_particles, tempering)
        self.steps: list[Step] = []
        self.islands = Islands(island_threshold)
        self.never_resamples = resample_when is None and ess_threshold == 0  # within runs, whatever the weights
        self.calls_back = on_step is not None or resample_when is not None  # functions from outside
        self._scheme = resampling_scheme(resampling)
        self._is_degenerate = ess_below(ess_threshold) if resample_when is None else checked(resample_when)
        self._on_step, self._monitor = on_step, monitor
        self._resamplings: dict[int, Resampling] = {}  # by the step before
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
        log_factor = self._multiply(name, "log-probability of the observation", log_factor)
        self.potential.fold(log_factor)
        generation, exchanges = self.lineage.generation, self.islands.num_exchanges
        self.steps.append(Step(name, log_factor, self.log_weights, self._consumed, generation, exchanges))
        self._folded = True
        if self._on_step is not None:
            ess = effective_sample_size(self.log_weights)
            report = StepReport(len(self.steps), name, ess, self.log_evidence(), len(self._resamplings))
            self._on_step(report)
        if self._monitor is not None:
            self._monitor(self)

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
        """Whether particles may be resampled now: if there is a factor since that was last considered."""
        return self._folded and not self.never_resamples

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
        exchange = self.islands.exchange(self.log_evidence(), last) if self.islands.enabled else None
        if exchange is not None:
            self.log_weights = self.log_weights[exchange.ancestors]
            self._consumed = self._consumed[exchange.ancestors] + exchange.log_shift
            self.potential.exchange(exchange.ancestors)
            running = running if running is None else running[exchange.ancestors]
        log_weights = self.log_weights if self.potential.is_one else self.log_weights + self.potential.declared
        degenerate = self._is_degenerate(log_weights)
        if running is not None:
            degenerate = degenerate & running
        if bool(degenerate.any()):
            degenerate = degenerate & ~all_dead(log_weights)
        resampled = bool(degenerate.any())
        if not resampled and exchange is None:
            return False
        ancestors = self._resample(degenerate, log_weights) if resampled else self._own_slots
        first_slots = self._first_slots if exchange is None else self._first_slots[exchange.ancestors]
        self.lineage.resample((first_slots + ancestors).flatten())
        return True

    def _resample(self, degenerate: Tensor, log_weights: Tensor) -> Tensor:
        """Resample runs `[R]`, whose weights times what potential is declared are given; returns ancestors `[R, N]`."""
        inverse_temperatures = self.potential.temper(log_weights)
        if not self.potential.is_one:
            log_potential = self.potential.at(inverse_temperatures)
            log_weights = self.log_weights + log_potential
        drawn = self._draw_offspring(degenerate, log_weights)
        ancestors = _in_runs(degenerate, drawn.ancestors, self._own_slots)
        powers = inverse_temperatures.masked_fill(~degenerate, torch.nan)
        exchanges = self.islands.num_exchanges
        self._resamplings[len(self.steps) - 1] = Resampling(degenerate, ancestors, powers, exchanges)
        self._consumed = self._consumed + log_mean_exp(log_weights).masked_fill(~degenerate, 0.0)
        offspring = drawn.log_weights
        if not self.potential.is_one:
            offspring = offspring - log_potential.gather(-1, ancestors)
        self.log_weights = _in_runs(degenerate, offspring, self.log_weights)
        self.potential.resample(ancestors, degenerate, inverse_temperatures)
        return ancestors

    def _draw_offspring(self, degenerate: Tensor, log_weights: Tensor) -> Resampled:
        """Draw by these log-weights; what comes out for the other runs is not used."""
        return self._scheme(_in_runs(degenerate, log_weights, 0.0), self.num_particles)

    def normalised_log_weights(self) -> Tensor:
        """The final log-weights, normalised in each run. Float64 `[R, N]`."""
        return normalise(self.log_weights)

    def log_evidence(self) -> Tensor:
        """Log of each run's estimate of the evidence of the factors so far. Float64 `[R]`."""
        return self._consumed + log_mean_exp(self.log_weights)

    def log_likelihood(self) -> Tensor:
        """Sum of the log-factors on each particle's lineage. Float64 `[R, N]`."""
        total = self.lineage.sum((step.log_factor.flatten(), step.generation) for step in self.steps)
        return total.expand(self.size).reshape(self.num_runs, self.num_particles)

    def history(self) -> StepHistory:
        """The recorded steps, stacked."""
        shape = (self.num_runs, len(self.steps), self.num_particles)
        log_weights = self._stacked([step.log_weights for step in self.steps])
        log_factor = self._stacked([step.log_factor for step in self.steps])
        islands = torch.arange(self.num_runs)[:, None].expand(shape[:2]).clone()
        if self.islands.num_exchanges:
            for index, step in enumerate(self.steps):
                islands[:, index] = self.islands.ancestors_at(step.exchanges, self.num_runs)
        resampled = torch.zeros(shape[:2], dtype=torch.bool)
        powers = torch.full(shape[:2], torch.nan, dtype=torch.float64)
        ancestors = self._own_slots.expand(shape).clone()
        if self._resamplings:
            after, made = list(self._resamplings), self._resamplings.values()
            resampled[:, after] = self._present([(each.runs, each.exchanges) for each in made])
            powers[:, after] = self._present([(each.inverse_temperatures, each.exchanges) for each in made])
            ancestors[:, after] = self._present([(each.ancestors, each.exchanges) for each in made])
        return StepHistory(
            ess=effective_sample_size(log_weights),
            log_evidence_increment=self._increments(log_weights),
            resampled=resampled,
            ancestors=ancestors,
            log_factor=log_factor,
            inverse_temperature=powers,
            islands=islands,
            exchanged=torch.tensor([index in self.islands.exchanges for index in range(shape[1])], dtype=torch.bool),
            log_weights=normalise(log_weights),
        )

    def _stacked(self, recorded: list[Tensor]) -> Tensor:
        """What was recorded at each step, `[R, ...]`, for the present runs. `[R, S, ...]`."""
        if not recorded:
            return torch.empty(self.num_runs, 0, self.num_particles, dtype=torch.float64)
        return self._present([(value, step.exchanges) for value, step in zip(recorded, self.steps, strict=True)])

    def _present(self, recorded: list[tuple[Tensor, int]]) -> Tensor:
        """What was recorded by run after so many exchanges, `[R, ...]`, for the present runs. `[R, K, ...]`."""
        return torch.stack([self.islands.present(value, exchanges) for value, exchanges in recorded], 1)

    def _increments(self, log_weights: Tensor) -> Tensor:
        """Differences of the evidence; what a resampling by a potential changes in it counts for the next step.

        What an exchange of runs changes in it counts for the step before. Of the log-weights after steps, `[R, S, N]`.
        """
        if not self.steps:
            return torch.empty(self.num_runs, 0, dtype=torch.float64)
        after = self._stacked([step.consumed for step in self.steps]) + log_mean_exp(log_weights)
        for number, (step, exchange) in enumerate(self.islands.exchanges.items(), start=1):
            after[:, step] += self.islands.present(exchange.log_shift, number)
        after[:, -1] = self.log_evidence()
        before = torch.cat([after.new_zeros(self.num_runs, 1), after[:, :-1]], 1)
        dead = torch.isneginf(before)
        return torch.where(dead, 0.0, after - before.masked_fill(dead, 0.0))

    def _multiply(self, name: str, what: str, log_factor: Tensor) -> Tensor:
        """Multiply the weights, checked; returns the log-factor as float64 `[R, N]`."""
        log_factor = log_factor.detach().cpu().double().reshape(self.num_runs, self.num_particles)
        before = self.log_weights
        self.log_weights = before + log_factor
        if not math.isfinite(float(self.log_weights.amax(-1).sum())):  # a dead run, or NaN, which amax propagates
            self._check_weights(name, what, log_factor, all_dead(before))
        return log_factor

    def _check_weights(self, name: str, what: str, log_factor: Tensor, dead_before: Tensor) -> None:
        where = f"step {len(self.steps) + 1}, site {name!r}"
        check_log_factor(where, what, log_factor)
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


def _in_runs(runs: Tensor, values: Tensor, otherwise: Tensor | float) -> Tensor:
    """The values in these runs, bool `[R]`, and something else in the others. `[R, N]`."""
    return values if bool(runs.all()) else torch.where(runs[:, None], values, otherwise)
