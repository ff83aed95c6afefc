"""Runs as particles: whole runs resampled by their evidence (the double bootstrap)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.ops.lineage import Lineage
from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.resampling_rule import ess_below
from pyro_llm.ops.weights import all_dead, log_mean_exp


@dataclass(frozen=True)
class Exchange:
    """An exchange between R islands.

    Attributes:
        ancestors: the island that is now in the place of each. Int64 `[R]`.
        log_shift: what is added to the log-evidence of the islands that were copied, so that all have the mean evidence
            now. Float64 `[R]`.
    """

    ancestors: Tensor
    log_shift: Tensor


class Islands:
    r"""Resamples whole runs in proportion to their evidence estimates when few hold most of it.

    Afterwards all runs have the evidence $\frac1R \sum_r \hat Z_r$, so that the mean over runs stays unbiased, as
    after any resampling. It is the bootstrap between islands of Vergé, Dubarry, Del Moral & Moulines (2015), "On
    parallel implementation of sequential Monte Carlo methods: the island particle model", adaptive by effective sample
    size; the one within islands follows, and makes copies of an island part. Ancestors are multinomial, for then
    the error of the mean can be estimated in spite of the dependence (`ops.variance`).

    Args:
        threshold: islands are exchanged when their effective sample size is below this fraction of R; 1 is always.
            None or 0 is never.
    """

    def __init__(self, threshold: float | None) -> None:
        self.enabled = bool(threshold)
        self.lineage = Lineage()
        self.exchanges: dict[int, Exchange] = {}
        self._is_due = ess_below(threshold or 0)

    @property
    def num_exchanges(self) -> int:
        """How often islands have been exchanged."""
        return self.lineage.generation

    def exchange(self, log_evidence: Tensor, step: int) -> Exchange | None:
        """Draw the ancestors of the islands after a step, if their evidence is too unequal. `[R]`."""
        if bool(all_dead(log_evidence)) or not bool(self._is_due(log_evidence[None])):
            return None
        ancestors = resampling_scheme("multinomial")(log_evidence[None], len(log_evidence)).ancestors[0]
        exchange = Exchange(ancestors, log_mean_exp(log_evidence) - log_evidence[ancestors])
        self.lineage.resample(ancestors)
        self.exchanges[step] = exchange
        return exchange

    def present(self, recorded: Tensor, num_exchanges: int) -> Tensor:
        """What was recorded by run after that many exchanges, for the present runs. `[R, ...]` -> `[R, ...]`."""
        return self.lineage.carry(recorded, num_exchanges)

    def ancestors_at(self, num_exchanges: int, num_runs: int) -> Tensor:
        """The run, after that many exchanges, from which each present run descends. Int64 `[R]`."""
        return self.present(torch.arange(num_runs), num_exchanges)
