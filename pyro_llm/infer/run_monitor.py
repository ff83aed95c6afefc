"""Telling, while a run goes on, that the rest of it would be wasted."""

from __future__ import annotations

import warnings

import torch

from pyro_llm.errors import UnhealthyRunWarning
from pyro_llm.infer.thresholds import Thresholds
from pyro_llm.ops.degeneracy import indifferent_steps
from pyro_llm.ops.population import Population
from pyro_llm.run_scope import current_cost

FIRST_LOOK = 5
"""Steps after which it looks for the first time; then after twice as many, and so on."""

FIRST_CERTAIN = 20
"""Steps from which on it is told that all particles are accepted for certain: the first tokens of a text may all meet
a constraint that later ones do not."""

MIN_PARTICLES = 10
"""Of a population that can degenerate: a few particles are one lineage soon, and that is no news."""

MIN_DRAWS = 32
TRUNCATED = 0.5
INDIFFERENT = 1.0
"""Where `Thresholds` are for a verdict on a finished run, these are for stopping one: nearly certain."""

SILENCE = "(To silence this: warnings.simplefilter('ignore', pyro_llm.errors.UnhealthyRunWarning).)"


class RunMonitor:
    """Called after each factor, gives an `UnhealthyRunWarning` for each illness once.

    It looks after 5, 10, 20, ... factors of a population, so that it costs next to nothing.

    Args:
        lineages: whether to look at ancestors: not where a reference is, or where runs are exchanged.
    """

    def __init__(self, lineages: bool = True) -> None:
        self._lineages, self._thresholds = lineages, Thresholds()
        self._told: set[str] = set()

    def __call__(self, population: Population) -> None:
        """Look, if it is time to."""
        steps = len(population.steps)
        if steps % FIRST_LOOK or (steps // FIRST_LOOK) & (steps // FIRST_LOOK - 1):
            return
        if population.num_particles >= MIN_PARTICLES:
            self._look_at_factors(population)
            if self._lineages:
                self._look_at_lineages(population)
        self._look_at_steps(population)

    def _look_at_factors(self, population: Population) -> None:
        thresholds = self._thresholds
        latest = population.steps[-1].log_factor
        spread = latest.amax() - latest.amin()
        if spread > thresholds.tolerance and latest.amin() < -thresholds.certainty:
            return  # the latest step has told particles apart: no need to look at all of them
        history = population.history()
        found = indifferent_steps(history.log_factor, history.ancestors, thresholds.tolerance, thresholds.certainty)
        if not history.log_factor.any():
            return  # factors of exactly 1 may be those of constraints, which all particles have met so far
        alike = (found.equal | found.certain)[found.compared]
        if alike.numel() and float(alike.double().mean()) >= INDIFFERENT:
            certain = bool(found.certain[found.compared].all())
            if certain and len(population.steps) < FIRST_CERTAIN:
                return
            self._tell(
                "reward-saturated" if certain else "reward-constant",
                f"none of {len(population.steps)} steps has told any particle from another: "
                f"{'all were accepted for certain' if certain else 'the reward is the same for all of them'}. The "
                "posterior will be what the program draws without rewards. Look at the reward by itself, on a good and "
                "a bad text.",
            )

    def _look_at_lineages(self, population: Population) -> None:
        size, generations = population.num_particles, population.lineage.generation
        if not 0 < generations <= self._thresholds.coalescence * size:
            return
        slots = population.lineage.ancestors_in(0)
        assert slots is not None
        by_run = slots.reshape(population.num_runs, size)
        alive = population.log_weights.amax(-1) > -torch.inf
        if bool((by_run.amax(-1) == by_run.amin(-1))[alive].all()):
            of = "" if population.num_runs == 1 else " of each run"
            self._tell(
                "one-lineage",
                f"after {len(population.steps)} steps and {generations} resampling{'s' if generations > 1 else ''} all "
                f"{size} particles{of} descend from one: what they have in common is a single draw. Take more "
                "particles, or soften the factors (inverse temperature, tempering).",
            )

    def _look_at_steps(self, population: Population) -> None:
        cost = current_cost()
        if cost.steps_sampled >= MIN_DRAWS and cost.steps_truncated > TRUNCATED * cost.steps_sampled:
            share = cost.steps_truncated / cost.steps_sampled
            self._tell(
                "truncated-steps",
                f"{share:.0%} of the steps so far were cut off at max_tokens, before their stop string. Raise "
                "max_tokens, or choose a stop string that the model writes.",
            )

    def _tell(self, name: str, message: str) -> None:
        if name not in self._told:
            self._told.add(name)
            warnings.warn(f"{name}: {message} {SILENCE}", UnhealthyRunWarning, stacklevel=2)
