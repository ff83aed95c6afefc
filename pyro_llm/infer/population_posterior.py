"""From the populations of a Markov chain's sweeps to its posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyro_llm.handlers.stacking import stack_ragged, stack_structures
from pyro_llm.infer.conditional_smc import Sweep, SweptParticles
from pyro_llm.infer.markov_chains import MarkovChains
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.stats import StepStats
from pyro_llm.run_scope import Cost


def population_posterior(
    sweeps: Sequence[Sweep], log_evidence: Tensor, cost: Cost, settings: dict[str, Any]
) -> Posterior:
    r"""All particles of all sweeps, `[chain, particle]`, those of one sweep side by side.

    A sweep's next draw is one of its particles, chosen by weight; the mean over that choice, given the particles, is
    their weighted mean. So averages of weighted populations have the expectation of averages of draws, and no more
    variance. A sweep counts in proportion to its number of particles.

    Args:
        sweeps: those that count, with their particles.
        log_evidence: of each chain, from its first iteration. `[R]`.
        cost: of all iterations.
        settings: of the algorithm.
    """
    kept: list[SweptParticles] = [sweep.particles for sweep in sweeps if sweep.particles is not None]
    sizes = [particles.log_weights.shape[1] for particles in kept]
    num_chains, total = kept[0].log_weights.shape[0], sum(sizes)
    shares = [math.log(size / total) for size in sizes]

    def columns(name: str) -> list[Tensor | None]:
        return [
            particles.samples[name][:, slot] if name in particles.samples else None
            for particles, size in zip(kept, sizes, strict=True)
            for slot in range(size)
        ]

    def lacking(name: str) -> Tensor:
        by_sweep = torch.tensor([name not in particles.samples for particles in kept])
        return by_sweep.repeat_interleave(torch.tensor(sizes))

    names = dict.fromkeys(name for particles in kept for name in particles.samples)
    returns = [
        particles.returns[chain * size + slot]
        for chain in range(num_chains)
        for particles, size in zip(kept, sizes, strict=True)
        for slot in range(size)
    ]

    def of_sweep(attribute: str) -> np.ndarray:
        by_sweep = torch.stack([getattr(sweep, attribute) for sweep in sweeps], 1)
        return by_sweep.repeat_interleave(torch.tensor(sizes), 1).numpy()

    return Posterior(
        samples={name: stack_ragged(columns(name)).transpose(0, 1) for name in names},
        returns=stack_structures(returns, (num_chains, total)),
        log_weights=torch.cat([one.log_weights + share for one, share in zip(kept, shares, strict=True)], 1),
        log_evidence=log_evidence,
        log_prior=torch.cat([particles.log_prior for particles in kept], 1),
        log_likelihood=torch.cat([particles.log_likelihood for particles in kept], 1),
        stats=StepStats.empty(num_chains, total),
        observed=sweeps[-1].observed,
        cost=cost,
        settings=settings,
        missing={name: lacks.expand(num_chains, total) for name in names if bool((lacks := lacking(name)).any())},
        chains=MarkovChains(
            of_sweep("lowest_ess"), of_sweep("resamplings"), iterations=np.repeat(np.arange(len(kept)), sizes)
        ),
    )
