"""The trajectory that a particle Gibbs sampler is conditioned on."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor


@dataclass(frozen=True)
class Reference:
    """One execution of a program for each of R runs, by site. Sites may be missing that did not concern it.

    Attributes:
        values: values of the latent sites. Each `[R, ...]`.
        log_probs: their log-probabilities. Float64, each `[R]`.
        log_factors: of the observed sites and the scaled latent ones, not tempered. Float64, each `[R]`.
    """

    values: dict[str, Tensor]
    log_probs: dict[str, Tensor]
    log_factors: dict[str, Tensor]

    def take(self, runs: Tensor) -> Reference:
        """The references of other runs in the place of these: run r gets that of `runs[r]`. Int64 `[R]`."""
        return Reference(
            values={name: value[runs.to(value.device)] for name, value in self.values.items()},
            log_probs={name: log_prob[runs] for name, log_prob in self.log_probs.items()},
            log_factors={name: log_factor[runs] for name, log_factor in self.log_factors.items()},
        )

    def with_log_probs(self, log_probs: dict[str, Tensor], log_factors: dict[str, Tensor]) -> Reference:
        """The same values, some of which have got another log-probability, or factor by it, with another past."""
        return replace(self, log_probs={**self.log_probs, **log_probs}, log_factors={**self.log_factors, **log_factors})
