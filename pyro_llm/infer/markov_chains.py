"""What Markov chain Monte Carlo records besides its draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Tempering:
    """The ladder of a parallel tempering run: C chains of K rungs, N draws.

    Attributes:
        inverse_temperatures: of the rungs, descending from 1. `[K]`.
        swap_rates: the share of tried swaps between rungs k and k + 1 that were accepted, after warm-up. `[K - 1]`.
        round_trips: how often a replica has been from the first rung to the last and back, after warm-up. Int64 `[C]`.
        log_likelihood: log-likelihood, not tempered, of each draw of each rung. `[C, K, N]`. Its mean at a rung is the
            derivative of the log-evidence by the inverse temperature (thermodynamic integration).
    """

    inverse_temperatures: NDArray[np.float64]
    swap_rates: NDArray[np.float64]
    round_trips: NDArray[np.int64]
    log_likelihood: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MarkovChains:
    """Marks a posterior whose runs are Markov chains.

    Its particles are successive draws, equally weighted; or, where `iterations` is set, all those of the sweeps that
    made the draws, weighted.

    Attributes:
        lowest_ess: the lowest effective sample size of any step of the sweep that made the draw. `[R, N]`.
        resamplings: how often the population was resampled in that sweep. Int64 `[R, N]`.
        tempering: of parallel tempering, its ladder.
        iterations: which of the iterations that count each particle was made in; None: one draw for each. Int64 `[N]`.
    """

    lowest_ess: NDArray[np.float64]
    resamplings: NDArray[np.int64]
    tempering: Tempering | None = None
    iterations: NDArray[np.int64] | None = None


def update_rates(samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """How often a site's value differs from that of the draw before, by chain: near 0, a chain is stuck there.

    Args:
        samples: values by site, each `[R, N, ...]`.

    Returns:
        Shares of the N - 1 successions, each float64 `[R]`; NaN for a single draw.

    >>> import torch
    >>> update_rates({"x": torch.tensor([[1, 1, 2]])})
    {'x': tensor([0.5000], dtype=torch.float64)}
    """
    rates = {}
    for name, value in samples.items():
        flat = value.reshape(*value.shape[:2], -1)
        same = (flat[:, 1:] == flat[:, :-1]) | ((flat[:, 1:] != flat[:, 1:]) & (flat[:, :-1] != flat[:, :-1]))
        rates[name] = (~same.all(-1)).double().mean(1)
    return rates
