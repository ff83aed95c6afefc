"""All runs of a particle algorithm, the program executed for each particle by itself."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_llm.handlers.scalar_messenger import Request, ScalarMessenger
from pyro_llm.handlers.stacking import stack_ragged, stack_structures
from pyro_llm.infer.explain import explained_factors
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.stopping import returned_at_end
from pyro_llm.ops.population import Population
from pyro_llm.run_scope import BudgetSpent, begin_generations, current_run_scope

_MOST_NAMES = 3


def run_scalar(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    population: Population,
    look_ahead: Callable[[str, Any], Any] | None = None,
) -> ParticleRun:
    """Advance the particles stage by stage: a stage ends, for each, at the next latent value after a new factor.

    So each particle meets at least one new factor in a stage, or ends. Programs may differ in which, as a stage is
    whatever lies between two such points of the particle's own execution. When the budget is spent, the result is what
    the particles were at the end of the stage before.
    """
    if population.never_resamples:
        look_ahead = None  # no resampling would ask for it
    particles = [ScalarMessenger(look_ahead) for _ in range(population.size)]
    scope = current_run_scope()
    beginning = population.size
    while True:
        before = [particle.fork() for particle in particles] if scope is not None and scope.budget is not None else []
        try:
            begin_generations(beginning)  # in later stages this asks for the time only
            beginning = 0
            _advance_together([particle for particle in particles if not particle.ended], model, args, kwargs)
        except BudgetSpent:
            for particle in before:
                if not particle.ended:
                    end = partial(particle.end_without_weight, model, args, kwargs)
                    particle.returned = returned_at_end(end)
            return _collect(before, population)
        _fold(particles, population)
        going_on = torch.tensor([not particle.ended for particle in particles])
        if not bool(going_on.any()):
            return _collect(particles, population)
        running = going_on.reshape(population.num_runs, population.num_particles).any(-1)
        if population.resample_degenerate_runs(running):
            particles = _resample(particles, population)


def _advance_together(
    particles: list[ScalarMessenger], model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    going_on = particles
    while going_on:
        _answer(going_on)
        for particle in going_on:
            with explained_factors(particle.record.sites):
                particle.advance(model, args, kwargs)
        going_on = [particle for particle in going_on if not (particle.ended or particle.may_be_resampled)]


def _answer(particles: list[ScalarMessenger]) -> None:
    """Answer the particles' requests in batches, one for each operation and class of distribution."""
    batches: dict[Any, list[tuple[ScalarMessenger, Request]]] = defaultdict(list)
    for particle in particles:
        if particle.request is not None:
            batches[particle.request.operation, type(particle.request.fn)].append((particle, particle.request))
    for (operation, distribution_class), batch in batches.items():
        distributions = [request.fn for _, request in batch]
        if operation == "sample":
            results = distribution_class.sample_together(distributions)
        else:
            results = distribution_class.log_prob_together(distributions, [request.value for _, request in batch])
        for (particle, _), result in zip(batch, results, strict=True):
            particle.answer(result)


def _fold(particles: list[ScalarMessenger], population: Population) -> None:
    _reweigh(particles, population)
    names: dict[str, None] = {}
    log_factor = torch.zeros(len(particles), dtype=torch.float64)
    for slot, particle in enumerate(particles):
        if particle.new_factors:
            names["+".join(name for name, _ in particle.new_factors)] = None
            log_factor[slot] = sum(log_prob for _, log_prob in particle.new_factors)
            particle.new_factors = []
    if names:
        label = "|".join([*names][:_MOST_NAMES]) + ("|..." if len(names) > _MOST_NAMES else "")
        population.fold(label, log_factor)
    _declare_potentials(particles, population)


def _reweigh(particles: list[ScalarMessenger], population: Population) -> None:
    """Fold in the ratios of the draws from proposals."""
    names = {name: None for particle in particles for name, _ in particle.new_log_ratios}
    if names:
        ratios = [sum(log_ratio for _, log_ratio in particle.new_log_ratios) for particle in particles]
        population.reweigh("|".join([*names][:_MOST_NAMES]), torch.tensor(ratios, dtype=torch.float64))
        for particle in particles:
            particle.new_log_ratios = []


def _declare_potentials(particles: list[ScalarMessenger], population: Population) -> None:
    """Declare the parts of the auxiliary potential; a particle that has ended has nothing more to foretell."""
    parts = {part: name for particle in particles for part, (name, _) in particle.log_potentials.items()}
    for part, name in parts.items():
        values = [0.0 if particle.ended else particle.log_potentials.get(part, ("", 0.0))[1] for particle in particles]
        population.declare_potential(part, name, torch.tensor(values, dtype=torch.float64))


def _resample(particles: list[ScalarMessenger], population: Population) -> list[ScalarMessenger]:
    slots = population.lineage.ancestors_in(population.lineage.generation - 1)
    assert slots is not None
    taken: set[int] = set()
    resampled = []
    for slot in slots.tolist():
        resampled.append(particles[slot].fork() if slot in taken else particles[slot])
        taken.add(slot)
    return resampled


def _collect(particles: list[ScalarMessenger], population: Population) -> ParticleRun:
    shape = population.num_runs, population.num_particles
    by_particle = [{site.name: site for site in particle.record.sites} for particle in particles]
    samples: dict[str, Tensor] = {}
    missing: dict[str, Tensor] = {}
    observed: dict[str, Tensor] = {}
    for sites in by_particle:
        for name, site in sites.items():
            if name in samples or name in observed or not isinstance(site.value, Tensor):
                continue
            if site.kind in ("latent", "deterministic"):
                site.check_unchanged()
                values = [other[name].value if name in other else None for other in by_particle]
                samples[name] = stack_ragged(values).unflatten(0, shape)
                if any(value is None for value in values):
                    missing[name] = torch.tensor([value is None for value in values]).reshape(shape)
            elif site.kind == "observed" and site.value.numel():
                observed[name] = site.value
    returned = [particle.returned for particle in particles]
    scope = current_run_scope()
    unended = scope is not None and scope.unended is not None
    return ParticleRun(
        population=population,
        samples=samples,
        returns=None if unended else stack_structures(returned, shape),
        log_prior=torch.tensor([particle.log_prior for particle in particles], dtype=torch.float64).reshape(shape),
        observed=observed,
        missing=missing,
    )
