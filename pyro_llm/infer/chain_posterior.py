"""From the sweeps of a Markov chain to its posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_llm.handlers.stacking import stack_ragged, stack_structures
from pyro_llm.infer.conditional_smc import Sweep
from pyro_llm.infer.markov_chains import MarkovChains, Tempering
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.stats import StepStats
from pyro_llm.run_scope import Cost


def chain_posterior(
    sweeps: Sequence[Sweep],
    runs: Sequence[int],
    log_evidence: Tensor,
    cost: Cost,
    settings: dict[str, Any],
    tempering: Tempering | None = None,
) -> Posterior:
    """Equally weighted draws `[chain, iteration]`, each the choice of one sweep.

    Sites that a draw did not meet are padded: NaN in floating-point values, -1 in integers.

    Args:
        sweeps: one for each iteration that counts.
        runs: the runs of the sweeps that are chains of the posterior.
        log_evidence: of each chain, from its first iteration, which is plain SMC. `[R]`.
        cost: of all iterations.
        settings: of the algorithm.
        tempering: of parallel tempering, its ladder.
    """
    index = torch.tensor(runs)
    shape = (len(runs), len(sweeps))

    def stacked(attribute: str) -> Tensor:
        return torch.stack([getattr(sweep, attribute)[index] for sweep in sweeps], 1)

    names = dict.fromkeys(name for sweep in sweeps for name in sweep.samples)
    samples, missing = {}, {}
    for name in names:
        values = [sweep.samples.get(name) for sweep in sweeps]
        samples[name] = stack_ragged(values)[:, index].transpose(0, 1)
        if any(value is None for value in values):
            missing[name] = torch.tensor([value is None for value in values]).expand(shape)
    return Posterior(
        samples=samples,
        returns=stack_structures([sweep.returns[run] for run in runs for sweep in sweeps], shape),
        log_weights=torch.full(shape, -math.log(len(sweeps)), dtype=torch.float64),
        log_evidence=log_evidence,
        log_prior=stacked("log_prior"),
        log_likelihood=stacked("log_likelihood"),
        stats=StepStats.empty(*shape),
        observed=sweeps[-1].observed,
        cost=cost,
        settings=settings,
        missing=missing,
        chains=MarkovChains(stacked("lowest_ess").numpy(), stacked("resamplings").numpy(), tempering),
    )
