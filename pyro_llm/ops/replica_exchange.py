"""Replica exchange: swaps between neighbouring rungs of a ladder of inverse temperatures, and the ladder itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def log_swap_ratios(log_likelihood: Tensor, inverse_temperatures: Tensor) -> Tensor:
    r"""Log of the Metropolis ratio of swapping each pair of neighbours.

    With $\pi_k \propto p(x) L(x)^{\beta_k}$ the ratio of Puri et al. (arXiv 2502.01618, Algorithm 3) is
    $\frac{\pi_k(x^{k+1}) \pi_{k+1}(x^k)}{\pi_k(x^k) \pi_{k+1}(x^{k+1})}
    = \left(L(x^{k+1}) / L(x^k)\right)^{\beta_k - \beta_{k+1}}$.

    Args:
        log_likelihood: log L of the state at each rung. Float64 `[C, K]`.
        inverse_temperatures: the rungs, descending. Float64 `[K]`.

    Returns:
        Of rungs k and k + 1. Float64 `[C, K - 1]`.

    >>> log_swap_ratios(torch.tensor([[0.5, 0.25]]).log(), torch.tensor([1.0, 0.0])).exp()
    tensor([[0.5000]])
    """
    spacing = inverse_temperatures[:-1] - inverse_temperatures[1:]
    # Two states that are equally impossible, or rungs that are equal, may be swapped: nothing changes.
    return (spacing * (log_likelihood[:, 1:] - log_likelihood[:, :-1])).nan_to_num(0.0, torch.inf, -torch.inf)


@dataclass(frozen=True)
class Exchange:
    """What one round of swaps did, in C chains of K rungs.

    Attributes:
        sources: the rung that each rung gets its state from. Int64 `[C, K]`.
        tried: the pairs of rungs k and k + 1 that were tried. Bool `[K - 1]`.
        accepted: those that were swapped. Bool `[C, K - 1]`.
        probability: with which they are. Float64 `[C, K - 1]`.
    """

    sources: Tensor
    tried: Tensor
    accepted: Tensor
    probability: Tensor


def exchange(log_likelihood: Tensor, inverse_temperatures: Tensor, parity: int, uniforms: Tensor) -> Exchange:
    """Swap neighbours with probability min(1, ratio): pairs (0, 1), (2, 3), ... or, for odd parity, (1, 2), (3, 4), ...

    Args:
        log_likelihood: log L of the state at each rung. Float64 `[C, K]`.
        inverse_temperatures: the rungs, descending. Float64 `[K]`.
        parity: 0 or 1.
        uniforms: in [0, 1). Float64 `[C, K - 1]`.
    """
    num_chains, num_rungs = log_likelihood.shape
    tried = torch.arange(num_rungs - 1) % 2 == parity
    probability = log_swap_ratios(log_likelihood, inverse_temperatures).clamp(max=0.0).exp()
    accepted = (uniforms < probability) & tried
    sources = torch.arange(num_rungs).repeat(num_chains, 1)
    sources[:, :-1] += accepted.long()
    sources[:, 1:] -= accepted.long()
    return Exchange(sources, tried, accepted, probability)


class Ladder:
    r"""Inverse temperatures that learn, pair by pair, the spacing at which swaps are accepted at a target rate.

    $\beta_0 = 1$, $\beta_{k+1} = \beta_k \exp(-e^{\rho_k})$, and $\rho_k$ follows the acceptance probability by
    stochastic approximation: Miasojedow, Moulines & Vihola (2013), "An adaptive parallel tempering algorithm".

    Args:
        num_rungs: K.
        lowest: the inverse temperature of the last rung to begin with, the others being a geometric sequence.
        target: the rate of accepted swaps to aim at.
    """

    def __init__(self, num_rungs: int, lowest: float, target: float) -> None:
        self.target = target
        spacing = -torch.tensor(lowest, dtype=torch.float64).log() / (num_rungs - 1)
        self._log_spacings = spacing.log().repeat(num_rungs - 1)
        self._updates = torch.zeros(num_rungs - 1, dtype=torch.float64)

    @property
    def inverse_temperatures(self) -> Tensor:
        """The rungs, descending from 1. Float64 `[K]`."""
        spacings = torch.cat([torch.zeros(1, dtype=torch.float64), self._log_spacings.exp()])
        return (-spacings.cumsum(0)).exp()

    def learn(self, swaps: Exchange) -> None:
        """Widen the pairs that were swapped more readily than the target, narrow the others."""
        surplus = swaps.probability.mean(0) - self.target
        self._updates += swaps.tried
        self._log_spacings += torch.where(swaps.tried, surplus * self._updates.clamp(min=1) ** -0.6, 0.0)


class RoundTrips:
    """Counts how often a replica has travelled from the first rung to the last and back, in C chains of K rungs."""

    def __init__(self, num_chains: int, num_rungs: int) -> None:
        self.replicas = torch.arange(num_rungs).repeat(num_chains, 1)
        self.completed = torch.zeros(num_chains, dtype=torch.int64)
        self._outward = torch.zeros(num_chains, num_rungs, dtype=torch.bool)  # by replica: has been at the first rung
        self._returning = torch.zeros(num_chains, num_rungs, dtype=torch.bool)  # and then at the last
        self._visit()

    def follow(self, swaps: Exchange) -> None:
        """Move the replicas as the states were."""
        self.replicas = self.replicas.gather(1, swaps.sources)
        self._visit()

    def _visit(self) -> None:
        chains = torch.arange(len(self.replicas))
        first, last = self.replicas[:, 0], self.replicas[:, -1]
        self.completed += self._returning[chains, first]
        self._returning[chains, first] = False
        self._outward[chains, first] = True
        self._returning[chains, last] = self._returning[chains, last] | self._outward[chains, last]
        self._outward[chains, last] = False
