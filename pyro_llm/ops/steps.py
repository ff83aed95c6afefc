"""What is recorded of a population of particles at each step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What was recorded when a factor was folded into the weights.

    Attributes:
        name: the observed site (the sites, if several were folded together).
        log_factor: the factor of each particle. Float64 `[R, N]`.
        log_weights: unnormalised log-weights after the factor. Float64 `[R, N]`.
        consumed: the log-weight that resamplings before the factor have used up; with the log of the mean weight it is
            the log-evidence of each run after the factor. Float64 `[R]`.
        generation: the number of resamplings before the factor.
        exchanges: the number of exchanges between runs before the factor.
    """

    name: str
    log_factor: Tensor
    log_weights: Tensor
    consumed: Tensor
    generation: int
    exchanges: int = 0


@dataclass(frozen=True)
class Resampling:
    """What was recorded when runs were resampled after a step.

    Attributes:
        runs: those that were. Bool `[R]`.
        ancestors: the slot before from which each slot after descends; itself in the other runs. Int64 `[R, N]`.
        inverse_temperatures: the power of the factors that each run was resampled by, NaN in the others. Float64 `[R]`.
        exchanges: the number of exchanges between runs before the resampling.
    """

    runs: Tensor
    ancestors: Tensor
    inverse_temperatures: Tensor
    exchanges: int


@dataclass(frozen=True)
class StepReport:
    """What a progress callback is told after each observed site.

    Attributes:
        step: number of the step, from 1.
        name: the observed site.
        ess: effective sample size of each run; NaN in a search. `[R]`.
        log_evidence: log-evidence of each run so far; NaN in a search. `[R]`.
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
        inverse_temperature: the power of the factors that the resampling after the step went by, 1 unless it was
            tempered; NaN where the run was not resampled. Float64 `[R, S]`.
        islands: the run at the step from which each run descends. Int64 `[R, S]`.
        exchanged: whether runs were exchanged after the step. Bool `[S]`.
        log_weights: after the step's factor, before resampling, normalised within the run. Float64 `[R, S, N]`.
    """

    ess: Tensor
    log_evidence_increment: Tensor
    resampled: Tensor
    ancestors: Tensor
    log_factor: Tensor
    inverse_temperature: Tensor
    islands: Tensor
    exchanged: Tensor
    log_weights: Tensor
