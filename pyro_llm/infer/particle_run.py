"""All runs of a particle algorithm in one batched execution of the program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyro
from pyro.poutine.messenger import Messenger
from torch import Tensor

from pyro_llm.errors import RewardError
from pyro_llm.handlers.particle_messenger import PARTICLE_PLATE, LookAhead, ParticleMessenger, Restart
from pyro_llm.handlers.shared_parameters import check_what_is_shared
from pyro_llm.handlers.unplated_data import check_observations
from pyro_llm.infer.explain import explained_batching, explained_factors
from pyro_llm.infer.stopping import returned_at_end, stop_for_reward
from pyro_llm.ops.population import Population
from pyro_llm.ops.step_texts import StepTexts
from pyro_llm.ops.steps import StepHistory
from pyro_llm.run_scope import BudgetSpent, begin_generations


@dataclass(frozen=True)
class ParticleRun:
    """What a particle algorithm leaves behind, for R runs of N particles.

    Attributes:
        population: the weights and their history.
        samples: per-particle values by site, each `[R, N, ...]`.
        returns: what the program returned, its particle dimension split into `[R, N]`.
        log_prior: `[R, N]`.
        observed: observed values by site.
        step_tokens: what each slot wrote before each step, int64 `[R, N, L]`, and what decodes it, if it is text.
        failure: that of the reward that ended the run; all else is what there was before it. None if none did.
        missing: which particles did not meet a site, bool `[R, N]` by name, of those sites that some particle lacks.
    """

    population: Population
    samples: dict[str, Tensor]
    returns: Any
    log_prior: Tensor
    observed: dict[str, Tensor]
    step_tokens: tuple[list[Tensor], Callable[[list[int]], str]] | None = None
    failure: RewardError | None = None
    missing: dict[str, Tensor] = field(default_factory=dict)

    def step_texts(self, history: StepHistory) -> StepTexts | None:
        """What each slot of the runs in `history` wrote at each step."""
        if self.step_tokens is None:
            return None
        tokens, decode = self.step_tokens
        descended = [step[runs] for step, runs in zip(tokens, history.islands.unbind(1), strict=True)]
        return StepTexts(descended, history.ancestors.numpy(), decode)


def run_vectorized(
    model: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    population: Population,
    max_plate_nesting: int,
    look_ahead: LookAhead | None = None,
) -> ParticleRun:
    """Execute `model` on all particles of all runs at once, replaying it whenever some run is resampled."""
    return run_messenger(model, args, kwargs, ParticleMessenger(population, -1 - max_plate_nesting, look_ahead))


def run_messenger(
    model: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], messenger: ParticleMessenger
) -> ParticleRun:
    """Execute `model` inside a messenger until it ends, replaying it whenever that is wanted.

    When the budget is spent, or a reward fails, the result is what has been recorded so far.
    """
    population, max_plate_nesting = messenger.population, -1 - messenger.axis.dim
    plate = pyro.plate(PARTICLE_PLATE, population.size, dim=messenger.axis.dim)

    def execute(handler: Messenger = messenger) -> Any:
        with handler, plate:
            return model(*args, **kwargs)

    failure: RewardError | None = None
    with explained_batching(max_plate_nesting, population.size), explained_factors(messenger.record.sites):
        try:
            begin_generations(population.size)
            while True:
                try:
                    returned = execute()
                    break
                except Restart:
                    continue
            messenger.finish()
        except (BudgetSpent, RewardError) as stop:
            if isinstance(stop, RewardError):
                failure = stop.with_traceback(None)  # which would keep the run, and all that it holds
                stop_for_reward()
            messenger.stop()
            returned = returned_at_end(execute)
        else:
            check_observations(execute, messenger)
            check_what_is_shared(execute, messenger)
    return ParticleRun(
        population=population,
        samples=messenger.samples(),
        returns=messenger.axis.split_runs(returned),
        log_prior=messenger.log_prior(),
        observed=messenger.observed(),
        step_tokens=messenger.step_tokens(),
        failure=failure,
    )
