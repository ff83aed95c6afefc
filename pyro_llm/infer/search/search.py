"""What all searches share: a run of the program on scored particles, and the posterior made of it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.handlers.search_messenger import SearchMessenger
from pyro_llm.infer.algorithm import Algorithm, Run
from pyro_llm.infer.options import check_integer, set_integers
from pyro_llm.infer.particle_run import ParticleRun, run_messenger
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.searched import Searched
from pyro_llm.infer.stats import StepStats
from pyro_llm.infer.stopping import delivered
from pyro_llm.ops.search import ScoreName, SearchPopulation, SelectionRule, check_score


@dataclass(frozen=True)
class SearchOptions:
    """What a search is set to.

    Attributes:
        others: options that are its own, by name.

    Raises:
        OptionError: an option has a value that it cannot have.
    """

    num_particles: int
    num_runs: int = 1
    max_plate_nesting: int = 0
    score: ScoreName | None = None
    others: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_integers(self, num_particles=1, num_runs=1, max_plate_nesting=0)
        if self.score is not None:
            check_score(self.score)

    def settings(self) -> dict[str, Any]:
        """The options as they are reported."""
        common = {"num_particles": self.num_particles, "num_runs": self.num_runs, "score": self.score}
        settings = {**common, **self.others, "max_plate_nesting": self.max_plate_nesting}
        return {name: value for name, value in settings.items() if value is not None}


class Search(Algorithm):
    """Executes a program on scored particles, and decides for one.

    Args:
        model: the program.
        options: what the search is set to.
        progress: as for `SMC`.
        budget: as for `SMC`.
        rule: selects whose past is continued; None: each particle goes its own way.
        judges: whether observed factors are asked for.
        greedy: whether latent sites take their most probable value.
    """

    options: SearchOptions

    def __init__(
        self,
        model: Callable[..., Any],
        options: SearchOptions,
        progress: ProgressOption,
        budget: Budget | None,
        *,
        rule: SelectionRule | None = None,
        judges: bool = True,
        greedy: bool = False,
    ) -> None:
        super().__init__(model, options, progress, budget, options.num_runs * options.num_particles)
        self._rule, self._judges, self._greedy = rule, judges, greedy

    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Run the search; the arguments go to the program.

        Raises:
            NonFiniteWeightError: a factor is NaN or plus infinity.
            BatchedBranchError: the program branches in Python on a value per particle.
            PlateNestingError: `max_plate_nesting` is too small.
            DuplicateSiteError: a site name occurs twice.
            ReplayError: the program does not repeat itself (`HiddenRandomnessError` if it draws numbers outside sites).
        """
        options = self.options
        with self._running(args, kwargs) as run:
            population = SearchPopulation(
                options.num_runs, options.num_particles, options.score or "last", self._rule, run.on_step
            )
            dim = -1 - options.max_plate_nesting
            messenger = SearchMessenger(population, dim, judges=self._judges, greedy=self._greedy)
            result = run_messenger(self.model, args, kwargs, messenger)
        return delivered(lambda: self._posterior(result, population, run), result.failure)

    @abstractmethod
    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        """How the search decides, from what it leaves behind and the scores by its factors, `[R, N]`."""

    def _posterior(self, result: ParticleRun, population: SearchPopulation, run: Run) -> Posterior:
        history = population.history()
        shape = (population.num_runs, population.num_particles)
        no_weights = np.full((shape[0], len(population.steps)), np.nan)
        powers = history.inverse_temperature.numpy()
        log_likelihood = population.log_likelihood() if self._judges else torch.full(shape, torch.nan)
        return Posterior(
            samples=result.samples,
            returns=result.returns,
            log_weights=None,
            log_evidence=None,
            log_prior=result.log_prior,
            log_likelihood=log_likelihood,
            stats=StepStats(
                names=[step.name for step in population.steps],
                ess=no_weights,
                log_evidence_increment=no_weights,
                resampled=history.resampled.numpy(),
                ancestors=history.ancestors.numpy(),
                log_factor=history.log_factor.numpy(),
                inverse_temperature=None if np.isnan(powers).all() else powers,
                texts=result.step_texts(history),
            ),
            observed=result.observed,
            cost=run.cost,
            settings=self._reported(run),
            searched=self._searched(result, population.scores if self._judges else torch.full(shape, torch.nan)),
        )


def check_beam_width(beam_width: Any, num_particles: int) -> None:
    """Raise OptionError if particles cannot be divided among beams of that width."""
    check_integer("beam_width", beam_width, at_least=1)
    if num_particles % beam_width:
        raise OptionError(
            f"num_particles={num_particles} is no multiple of beam_width={beam_width}: num_particles / beam_width "
            "prefixes are kept, and each is continued beam_width times."
        )
