"""One sweep of conditional SMC over a program, all runs in one batch: the kernel of particle Gibbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.errors import AllParticlesDeadError
from pyro_llm.handlers.conditional_messenger import ConditionalMessenger
from pyro_llm.handlers.future_messenger import FutureMessenger, ScoreAgain
from pyro_llm.handlers.particle_messenger import PARTICLE_PLATE, Restart
from pyro_llm.handlers.reference import Reference
from pyro_llm.handlers.shared_parameters import check_what_is_shared
from pyro_llm.handlers.unplated_data import check_observations
from pyro_llm.infer.explain import explained_batching, explained_factors
from pyro_llm.infer.particle_values import particle_value
from pyro_llm.infer.stopping import returned_at_end
from pyro_llm.ops.conditional import ConditionalPopulation, FutureNeeded, SlotDraw, independent_slots
from pyro_llm.ops.population import Population
from pyro_llm.ops.steps import StepReport
from pyro_llm.ops.weights import all_dead
from pyro_llm.run_scope import BudgetSpent, begin_generations


@dataclass(frozen=True)
class SweptParticles:
    """All N particles of one sweep, for each of R runs.

    Attributes:
        samples: values by latent and deterministic site. Each `[R, N, ...]`.
        returns: the part of the program's return value that belongs to each particle, run after run. Length R N.
        log_weights: normalised in each run. Float64 `[R, N]`.
        log_prior: log-probability of each particle's latent values. Float64 `[R, N]`.
        log_likelihood: of the observations given each particle, not tempered. Float64 `[R, N]`.
    """

    samples: dict[str, Tensor]
    returns: list[Any]
    log_weights: Tensor
    log_prior: Tensor
    log_likelihood: Tensor


@dataclass(frozen=True)
class Sweep:
    """What one sweep leaves behind: one draw for each of R runs.

    Attributes:
        reference: the draws, to condition the next sweep on.
        samples: values by latent and deterministic site. Each `[R, ...]`.
        returns: the part of the program's return value that belongs to each draw. Length R.
        log_prior: log-probability of each draw's latent values. Float64 `[R]`.
        log_likelihood: of the observations given each draw, not tempered. Float64 `[R]`.
        log_evidence: log of the estimate of the (tempered) evidence; unbiased in plain SMC only. Float64 `[R]`.
        lowest_ess: the lowest effective sample size of any step. Float64 `[R]`.
        resamplings: how often each run was resampled. Int64 `[R]`.
        observed: observed values by site.
        particles: all of them, where they are kept.
    """

    reference: Reference
    samples: dict[str, Tensor]
    returns: list[Any]
    log_prior: Tensor
    log_likelihood: Tensor
    log_evidence: Tensor
    lowest_ess: Tensor
    resamplings: Tensor
    observed: dict[str, Tensor]
    particles: SweptParticles | None = None


@dataclass(frozen=True)
class ConditionalSMC:
    r"""A Markov kernel on executions of a program that leaves the posterior invariant, for R runs at once.

    Andrieu, Doucet & Holenstein, "Particle Markov chain Monte Carlo methods" (2010), Sections 4.3 and 4.5: run SMC with
    the reference in slot 0, then draw the next reference from the final particles by their weights.

    Attributes:
        model: the program.
        num_runs: R.
        num_particles: N, the reference among them.
        ess_threshold: a run is resampled when its effective sample size is below this fraction of N.
        ancestor_sampling: whether the reference's past is drawn anew at each resampling.
        max_plate_nesting: how many vectorised plates the program nests.
        draw_slots: the source of randomness of ancestors and of the final choice.
        on_step: called after each factor.
        keeps_particles: whether a sweep leaves all its particles, and not the draws alone.
        monitor: called with the population after each factor.
    """

    model: Callable[..., Any]
    num_runs: int
    num_particles: int
    ess_threshold: float = 0.5
    ancestor_sampling: bool = False
    max_plate_nesting: int = 0
    draw_slots: SlotDraw = independent_slots
    on_step: Callable[[StepReport], None] | None = None
    keeps_particles: bool = False
    monitor: Callable[[Population], None] | None = None

    def sweep(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        reference: Reference | None,
        inverse_temperatures: Tensor | None = None,
    ) -> Sweep:
        """Run plain SMC (no reference) or conditional SMC, and draw one particle of each run by its weight.

        Args:
            args: of the program.
            kwargs: of the program.
            reference: what to condition on, for each run.
            inverse_temperatures: the power of the observed factors, in each run. Float64 `[R]`; all 1 by default.

        Returns:
            What the sweep leaves; of plain SMC whose budget is spent, drawn from the particles as they were then.

        Raises:
            BudgetSpent: the budget is, in conditional SMC: an unfinished sweep is no step of the Markov chain.
            AllParticlesDeadError: some run has no particle of positive weight.
        """
        population = ConditionalPopulation(
            self.num_runs,
            self.num_particles,
            self.ess_threshold,
            conditional=reference is not None,
            ancestor_sampling=self.ancestor_sampling,
            inverse_temperatures=inverse_temperatures,
            draw_slots=self.draw_slots,
            on_step=self.on_step,
            monitor=self.monitor,
        )
        messenger = ConditionalMessenger(population, -1 - self.max_plate_nesting, reference)
        plate = pyro.plate(PARTICLE_PLATE, population.size, dim=messenger.axis.dim)

        def execute(handler: Messenger = messenger) -> Any:
            with handler, plate:
                return self.model(*args, **kwargs)

        with explained_batching(self.max_plate_nesting, population.size), explained_factors(messenger.record.sites):
            try:
                begin_generations(self.num_runs * (self.num_particles - (reference is not None)))
                while True:
                    try:
                        returned = execute()
                        break
                    except Restart:
                        continue
                    except FutureNeeded as needed:
                        self._draw_pasts(messenger, needed.runs, args, kwargs)
                messenger.finish()
            except BudgetSpent:
                if reference is not None:
                    raise
                messenger.stop()
                returned = returned_at_end(execute)
            else:
                if reference is None:
                    check_observations(execute, messenger)
                    check_what_is_shared(execute, messenger)
        return self._choose(messenger, returned)

    def _draw_pasts(
        self, messenger: ConditionalMessenger, runs: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """Resample, with the reference's ancestor drawn by the density of its future under each past."""
        future = FutureMessenger(messenger, runs)
        plate = pyro.plate(PARTICLE_PLATE, messenger.axis.size, dim=messenger.axis.dim)
        while True:
            try:
                with future, plate:
                    self.model(*args, **kwargs)
                break
            except ScoreAgain:
                continue
        population = messenger.conditional_population
        population.give_future(future.log_future)
        slots = population.lineage.ancestors_in(population.lineage.generation - 1)
        assert slots is not None and messenger.reference is not None
        ancestors = slots[messenger.reference_slots]
        messenger.reference = messenger.reference.with_log_probs(
            {name: log_prob[ancestors] for name, log_prob in future.log_probs.items()},
            {name: log_factor[ancestors] for name, log_factor in future.log_factors.items()},
        )

    def _choose(self, messenger: ConditionalMessenger, returned: Any) -> Sweep:
        population, runs = messenger.conditional_population, torch.arange(self.num_runs)
        if bool(all_dead(population.log_weights).any()):
            dead = int(all_dead(population.log_weights).sum())
            raise AllParticlesDeadError(
                f"In {dead} of {self.num_runs} runs all particles have weight zero, so there is none that the next "
                "iteration could start from. Use more particles, or soften the factors (give no reward of exactly 0)."
            )
        chosen = self.draw_slots(population.normalised_log_weights(), 1)[:, 0]
        shape = (self.num_runs, self.num_particles)
        by_run = messenger.axis.split_runs(returned)
        history = population.history()
        log_factors = population.log_factors()
        log_likelihood = sum(log_factors, torch.zeros(shape, dtype=torch.float64))
        samples, log_prior = messenger.samples(), messenger.log_prior()
        particles = None
        if self.keeps_particles:
            particles = SweptParticles(
                samples=samples,
                returns=[particle_value(by_run, *divmod(i, shape[1]), shape) for i in range(population.size)],
                log_weights=population.normalised_log_weights(),
                log_prior=log_prior,
                log_likelihood=log_likelihood,
            )
        return Sweep(
            reference=messenger.take(chosen),
            samples={name: value[runs, chosen] for name, value in samples.items()},
            returns=[particle_value(by_run, run, slot, shape) for run, slot in enumerate(chosen.tolist())],
            log_prior=log_prior[runs, chosen],
            log_likelihood=log_likelihood[runs, chosen],
            log_evidence=population.log_evidence(),
            lowest_ess=history.ess.amin(-1) if log_factors else torch.full((self.num_runs,), float(self.num_particles)),
            resamplings=history.resampled.sum(-1),
            observed=messenger.observed(),
            particles=particles,
        )
