"""An examination in progress: what was found so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_llm.infer.diagnosis import Finding, Severity
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.thresholds import Thresholds


@dataclass
class Examination:
    """A posterior, what it is held against, and what was found.

    Attributes:
        posterior: what is examined.
        thresholds: what its figures are held against.
        functionals: of texts, whose R-hat and ESS are of interest.
        figures: by name.
        findings: so far.
    """

    posterior: Posterior
    thresholds: Thresholds
    functionals: Mapping[str, Callable[[str], Any]]
    figures: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def find(self, name: str, severity: Severity, figure: float, threshold: float, what: str, change: str) -> None:
        """Note that something is wrong."""
        self.findings.append(Finding(name, severity, float(figure), float(threshold), what, change))

    @property
    def is_search(self) -> bool:
        """Whether particles have scores, and no weights."""
        return self.posterior.is_search

    @property
    def is_weighted(self) -> bool:
        """Whether particles have weights that say something."""
        return not self.is_search and self.posterior.chains is None and not self.is_resampled

    @property
    def is_resampled(self) -> bool:
        """Whether these are equally weighted draws from another posterior, without its history."""
        return "resampled_from" in self.posterior.settings

    @property
    def alive(self) -> NDArray[np.bool_]:
        """Runs with positive evidence. `[R]`."""
        if self.is_search:
            return np.ones(self.posterior.num_runs, dtype=bool)
        return self.posterior.log_evidence.isfinite().numpy()

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """Of each particle in the pooled posterior; equal where there are no weights. `[R, N]`."""
        shape = self.posterior.num_runs, self.posterior.num_particles
        if self.is_search or not self.alive.any():
            return np.full(shape, 1 / (shape[0] * shape[1]))
        return self.posterior.pooled_log_weights.exp().numpy()
