"""The population of conditional SMC: in each run, slot 0 belongs to a reference that is never resampled away."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_llm.errors import NonFiniteWeightError
from pyro_llm.ops.population import Population
from pyro_llm.ops.resampling import Resampled, resampling_scheme
from pyro_llm.ops.steps import StepReport

SlotDraw = Callable[[Tensor, int], Tensor]
"""Draws M slots of each run independently, in proportion to their weights: `(log_weights [R, N], M) -> [R, M]`."""


def independent_slots(log_weights: Tensor, num_draws: int) -> Tensor:
    """The `SlotDraw` by torch's generator."""
    return resampling_scheme("multinomial")(log_weights, num_draws).ancestors


class FutureNeeded(BaseException):
    """Asks for the log-density of the references' futures under each particle's past, before a resampling.

    No `Exception`: it leaves a program that is to be replayed, and a program's `except Exception` must not swallow it.

    Attributes:
        runs: the runs that are to be resampled. Bool `[R]`.
    """

    def __init__(self, runs: Tensor) -> None:
        super().__init__()
        self.runs = runs


class ConditionalPopulation(Population):
    r"""Weights of R runs of N particles, slot 0 of which may be a reference, with factors raised to a power by run.

    Where the runs are conditional, the ancestors of slots 1 to N - 1 are drawn independently in proportion to the
    weights, that of slot 0 being slot 0: the conditional SMC update of Andrieu, Doucet & Holenstein (2010), Section
    4.3, with multinomial resampling. Independently, for with a scheme that sorts its ancestors slot 0 would be special,
    and the target not invariant. With ancestor sampling (Lindsten, Jordan & Schön 2014) the ancestor of slot 0 is drawn
    as well, in proportion to $w_n$ times the density of the reference's future under the past of particle n. An
    auxiliary potential has no say in that: it is in the weights of all particles now, and would be divided out of the
    future's (see `pyro_llm.ops.potential`).

    Args:
        num_runs: R.
        num_particles: N.
        ess_threshold: as for `Population`. Whether a run is resampled must not depend on the order of its particles.
        conditional: whether slot 0 is a reference. If not, this is plain SMC.
        ancestor_sampling: whether the ancestor of slot 0 is drawn. Resampling then raises `FutureNeeded` until
            `give_future` has been called.
        inverse_temperatures: the power of the factors, in each run. Float64 `[R]`; all 1 by default.
        draw_slots: the source of randomness.
        on_step: called after each factor.
        monitor: as for `Population`.
    """

    def __init__(
        self,
        num_runs: int,
        num_particles: int,
        ess_threshold: float,
        *,
        conditional: bool,
        ancestor_sampling: bool = False,
        inverse_temperatures: Tensor | None = None,
        draw_slots: SlotDraw = independent_slots,
        on_step: Callable[[StepReport], None] | None = None,
        monitor: Callable[[Population], None] | None = None,
    ) -> None:
        super().__init__(num_runs, num_particles, ess_threshold, "multinomial", on_step, monitor=monitor)
        self.conditional, self.ancestor_sampling = conditional, conditional and ancestor_sampling
        if inverse_temperatures is None:
            inverse_temperatures = torch.ones(num_runs, dtype=torch.float64)
        self.inverse_temperatures = inverse_temperatures
        self.draw_slots = draw_slots
        self._log_future: Tensor | None = None
        self._untempered: list[Tensor] = []

    def fold(self, name: str, log_factor: Tensor) -> None:
        """Multiply the weights by a factor raised to each run's inverse temperature; see `Population.fold`."""
        log_factor = log_factor.detach().cpu().double().reshape(self.num_runs, self.num_particles)
        super().fold(name, temper(log_factor, self.inverse_temperatures))
        self._untempered.append(log_factor)

    def give_future(self, log_future: Tensor) -> bool:
        """Resample, the references' ancestors drawn by their weights times `exp(log_future)`. Float64 `[R, N]`.

        Returns:
            Whether any run was resampled, as `resample_degenerate_runs` does.

        Raises:
            NonFiniteWeightError: the log-density is NaN or plus infinity.
        """
        if bool((torch.isnan(log_future) | (log_future == torch.inf)).any()):
            raise NonFiniteWeightError(
                "The log-density of a reference's future under another past is NaN or plus infinity: look at the "
                "parameters of the program's distributions where their values come from different particles."
            )
        self._log_future = log_future
        self._folded = True
        try:
            return self.resample_degenerate_runs()
        finally:
            self._log_future = None

    def log_factors(self) -> list[Tensor]:
        """The factors of each step, not tempered, for the present particles. Each float64 `[R, N]`."""
        return [
            self.lineage.carry(log_factor.flatten(), step.generation).reshape(self.num_runs, self.num_particles)
            for step, log_factor in zip(self.steps, self._untempered, strict=True)
        ]

    def _draw_offspring(self, degenerate: Tensor, log_weights: Tensor) -> Resampled:
        drawn_by = log_weights.masked_fill(~degenerate[:, None], 0.0)
        if not self.conditional:
            return Resampled.equally_weighted(self.draw_slots(drawn_by, self.num_particles))
        if self.ancestor_sampling and self._log_future is None:
            raise FutureNeeded(degenerate)
        fresh = self.draw_slots(drawn_by, self.num_particles - 1)
        reference = torch.zeros(self.num_runs, 1, dtype=torch.int64)
        if self._log_future is not None:
            joint = torch.where(degenerate[:, None], self.log_weights + self._log_future, 0.0)
            reference = torch.where(degenerate[:, None], self.draw_slots(joint, 1), 0)
        return Resampled.equally_weighted(torch.cat([reference, fresh], -1))


def temper(log_factor: Tensor, inverse_temperatures: Tensor) -> Tensor:
    """Log-factors by run, `[R, N]`, times the run's inverse temperature, `[R]`. 0 to the power 0 is 1; NaN stays NaN.

    >>> temper(torch.tensor([[-1.0], [-torch.inf]]), torch.tensor([0.5, 0.0]))
    tensor([[-0.5000],
            [ 0.0000]])
    """
    powers = inverse_temperatures[:, None]
    return (log_factor * powers).masked_fill((powers == 0) & torch.isneginf(log_factor), 0.0)
