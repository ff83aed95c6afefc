"""What a sequential algorithm records at each step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pyro_llm.ops.genealogy import trace_lineages, unique_ancestors
from pyro_llm.ops.step_texts import StepTexts


@dataclass(frozen=True, eq=False)
class StepStats:
    """The course of an inference run, a *step* being an observed site, in the order the program met them.

    R runs, S steps, N particles. Slots are positions in a run's population.

    Attributes:
        names: the observed sites. Length S.
        ess: Kish effective sample size of the weights after the step's factor, before any resampling and without the
            auxiliary potential of twists or look-ahead, by which it may go; NaN in a search. `[R, S]`.
        log_evidence_increment: log of the estimated p(observation of the step | those before); sums over steps
            to the run's log-evidence; NaN in a search. `[R, S]`.
        resampled: whether the population was resampled, or selected by a search, after the step. Bool, `[R, S]`.
        ancestors: the slot at the step, before resampling, from which each slot after it descends (the slot itself
            where nothing was resampled). Int64, `[R, S, N]`.
        log_factor: log-probability of the step's observation for each slot at the step. `[R, S, N]`.
        inverse_temperature: under `AdaptiveTempering`, the power of the factors that the resampling after the step went
            by (`EntropicSMC`: of the scores); NaN where the run was not resampled. `[R, S]`, None without tempering.
        islands: the run at the step from which each run descends, where runs could be exchanged (`island_threshold`);
            None where they are independent. What is recorded of a run is then that of the runs it descends from.
            Int64 `[R, S]`.
        exchanged: whether runs were exchanged after the step; None where they are independent. Bool `[S]`.
        log_weights: log-weights after the step's factor, before any resampling, normalised within the run. `[R, S, N]`;
            None where they were not kept.
        texts: what each slot wrote between the step before and this one, whether or not it has descendants (`values`,
            `[R, S, N]`); None where that was no text, particles had several, or were executed one by one.
    """

    names: list[str]
    ess: NDArray[np.float64]
    log_evidence_increment: NDArray[np.float64]
    resampled: NDArray[np.bool_]
    ancestors: NDArray[np.int64]
    log_factor: NDArray[np.float64]
    inverse_temperature: NDArray[np.float64] | None = None
    islands: NDArray[np.int64] | None = None
    exchanged: NDArray[np.bool_] | None = None
    log_weights: NDArray[np.float64] | None = None
    texts: StepTexts | None = None

    def __post_init__(self) -> None:
        by_step = (self.ancestors.shape[0], len(self.names))
        by_particle = (*by_step, self.ancestors.shape[-1])
        expected = {
            "ess": by_step,
            "log_evidence_increment": by_step,
            "resampled": by_step,
            "ancestors": by_particle,
            "log_factor": by_particle,
        }
        if self.log_weights is not None:
            expected["log_weights"] = by_particle
        if self.inverse_temperature is not None:
            expected["inverse_temperature"] = by_step
        if self.islands is not None or self.exchanged is not None:
            expected |= {"islands": by_step, "exchanged": by_step[1:]}
        for name, shape in expected.items():
            found = np.shape(getattr(self, name))
            if found != shape:
                raise ValueError(f"StepStats.{name} has shape {found}, expected {shape}.")

    @classmethod
    def empty(cls, num_runs: int, num_particles: int) -> StepStats:
        """The statistics of runs without any step."""
        return cls(
            names=[],
            ess=np.empty((num_runs, 0)),
            log_evidence_increment=np.empty((num_runs, 0)),
            resampled=np.empty((num_runs, 0), dtype=bool),
            ancestors=np.empty((num_runs, 0, num_particles), dtype=np.int64),
            log_factor=np.empty((num_runs, 0, num_particles)),
            log_weights=np.empty((num_runs, 0, num_particles)),
        )

    @property
    def num_steps(self) -> int:
        """The number of observed sites."""
        return len(self.names)

    @cached_property
    def unique_ancestors(self) -> NDArray[np.int64]:
        """How many particles of each step have a descendant in the final population. Int64, `[R, S]`.

        Where it is 1, all that came before the step is the history of one particle, whatever the ESS says.
        """
        return unique_ancestors(torch.from_numpy(self.ancestors)).numpy()

    @cached_property
    def lineages(self) -> NDArray[np.int64]:
        """The slot at each step from which each particle of the final population descends. Int64, `[R, S, N]`."""
        return trace_lineages(torch.from_numpy(self.ancestors)).numpy()

    @property
    def num_exchanges(self) -> int:
        """How often runs were exchanged."""
        return 0 if self.exchanged is None else int(self.exchanged.sum())

    @property
    def founders(self) -> NDArray[np.int64]:
        """The run at the first step from which each run descends; itself if runs are independent. Int64 `[R]`."""
        if self.islands is None or not self.num_steps:
            return np.arange(self.ancestors.shape[0])
        return self.islands[:, 0]
