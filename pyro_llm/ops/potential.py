r"""The auxiliary potential: what resampling goes by beyond the weights, and what it therefore divides out.

Resample by $w \psi$ in place of the weights $w$, for any positive function $\psi$ of the particles, and give the
offspring of particle $a$ the weight $1 / \psi^a$ in place of 1: every expectation is what it was, and
$\hat Z$ stays unbiased. It is for the estimates alone that the potential is never used, so it has left them at the end.
All that guides particles ahead of their factors is a choice of $\psi$:

- twists: $\psi$ foretells all factors to come (Whiteley & Lee 2014, "Twisted particle filters"; Guarniero, Johansen &
  Lee 2017, "The iterated auxiliary particle filter");
- look-ahead: $\psi$ foretells the next factor, the first-stage weight of the auxiliary particle filter (Pitt &
  Shephard 1999; the form here is that of Chopin & Papaspiliopoulos, Section 10.3.3);
- tempering: $\psi = g^{\beta - 1}$ takes back part of the factors $g$ that are in the weights already, and $1 / \psi$
  is the power of them that is left for later.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.ops.tempering import AdaptiveTempering, inverse_temperature


class AuxiliaryPotential:
    r"""Log of the potential $\psi$ of each particle, a sum of parts. Float64 `[R, N]`.

    Args:
        num_runs: R.
        num_particles: N.
        tempering: whether and how the factors are tempered.
    """

    def __init__(self, num_runs: int, num_particles: int, tempering: AdaptiveTempering | None = None) -> None:
        self._zeros = torch.zeros(num_runs, num_particles, dtype=torch.float64)
        self._declared: dict[str, Tensor] = {}
        self._tempering = tempering
        self._power_left = self._zeros  # log of the factors, to the power that no resampling has used
        self._num_factors = 0

    @property
    def is_one(self) -> bool:
        """Whether there is none: nothing is declared, and nothing tempered."""
        return not self._declared and self._tempering is None

    @property
    def declared(self) -> Tensor:
        """All parts but the tempering, `[R, N]`."""
        return sum(self._declared.values(), start=self._zeros)

    def declare(self, part: str, log_potential: Tensor) -> None:
        """Set a part, in place of what it was. `[R, N]`, finite."""
        self._declared[part] = log_potential

    def fold(self, log_factor: Tensor) -> None:
        """Take note of a factor that the weights have been multiplied by."""
        self._num_factors += 1
        if self._tempering is not None:
            self._power_left = self._power_left + log_factor

    def temper(self, log_weights: Tensor) -> Tensor:
        r"""Inverse temperature of each run for a resampling by $w \psi$, given by its logarithm `[R, N]`. `[R]`."""
        options = self._tempering
        if options is None or (options.num_steps is not None and self._num_factors > options.num_steps):
            return torch.ones(log_weights.shape[0], dtype=torch.float64)
        return inverse_temperature(log_weights, self._finite_power_left(), options.ess_target)

    def at(self, inverse_temperatures: Tensor) -> Tensor:
        """The whole log-potential if runs are resampled at these inverse temperatures. `[R]` -> `[R, N]`."""
        if self._tempering is None:
            return self.declared
        return self.declared - (1 - inverse_temperatures)[:, None] * self._finite_power_left()

    def resample(self, ancestors: Tensor, resampled: Tensor, inverse_temperatures: Tensor) -> None:
        """Pass the parts on to the offspring.

        Args:
            ancestors: `[R, N]`; each slot itself in runs that are not resampled.
            resampled: bool `[R]`.
            inverse_temperatures: those of this resampling, `[R]`.
        """
        self._declared = {part: log_psi.gather(-1, ancestors) for part, log_psi in self._declared.items()}
        if self._tempering is None:
            return
        rest = ((1 - inverse_temperatures)[:, None] * self._finite_power_left()).gather(-1, ancestors)
        self._power_left = torch.where(resampled[:, None], rest, self._power_left)

    def exchange(self, runs: Tensor) -> None:
        """Put whole runs in the places of others: run r descends from run `runs[r]`. Int64 `[R]`."""
        self._declared = {part: log_psi[runs] for part, log_psi in self._declared.items()}
        self._power_left = self._power_left[runs]

    def _finite_power_left(self) -> Tensor:
        """A factor of zero has no power to take back: its particle is dead at every temperature."""
        return self._power_left.masked_fill(torch.isneginf(self._power_left), 0.0)
