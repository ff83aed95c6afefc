"""The inverse temperature at which weights are even enough to resample by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.ops.weights import effective_sample_size
from pyro_llm.validation import as_integer

_BISECTIONS = 40


@dataclass(frozen=True)
class AdaptiveTempering:
    r"""Resample by tempered factors as long as the factors alone would leave too few particles.

    A resampling that is due goes by the weights with the power $\beta$ of the factors observed since the last one, the
    largest $\beta \in [0, 1]$ that keeps the effective sample size of these weights at `ess_target`. The remaining
    power $1 - \beta$ stays in each particle's weight, to be used by the next resampling, as far as that is not tempered
    too, or by the final weights. So the target is what the program says, and $\hat Z$ stays unbiased.

    Resampling more evenly while rewards are early and overconfident is the entropic annealing of Giannone et al.,
    "Mitigating premature exploitation in particle-based Monte Carlo for inference-time scaling" (arXiv 2510.05825),
    who go by the entropy of the weights; that the rest of the power is carried keeps the target (see
    `pyro_llm.ops.potential`). It costs no language model or reward calls. The temperatures are in
    `Posterior.stats.inverse_temperature`.

    Args:
        ess_target: effective sample size to keep, as a fraction of the particles, in (0, 1].
        num_steps: the early phase: only resamplings after at most so many observed sites are tempered (for scalar
            particles, after so many stages between latent values). None: all.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import SMC
        >>> def model():
        ...     x = pyro.sample("x", dist.Normal(0.0, 1.0))
        ...     pyro.factor("overconfident", -50 * (x - 1) ** 2)
        ...     y = pyro.sample("y", dist.Normal(x, 1.0))
        ...     pyro.factor("sure", -(y - 1) ** 2)
        >>> pyro.set_rng_seed(0)
        >>> posterior = SMC(model, num_particles=100, tempering=AdaptiveTempering(ess_target=0.6)).run()
        >>> bool(posterior.stats.inverse_temperature[0, 0] < 0.2)
        True
    """

    ess_target: float = 0.5
    num_steps: int | None = None

    def __post_init__(self) -> None:
        target: Any = self.ess_target
        if isinstance(target, bool) or not isinstance(target, int | float) or not 0 < target <= 1:
            raise OptionError(f"ess_target={target!r}: give a fraction of the particles, above 0 and at most 1.")
        steps: Any = self.num_steps
        if steps is not None and (as_integer(steps) is None or steps < 1):
            raise OptionError(f"num_steps={steps!r}: give a number of observed sites, at least 1, or None for all.")


def inverse_temperature(log_weights: Tensor, log_factor: Tensor, ess_target: float) -> Tensor:
    r"""The largest power $\beta$ of a factor in the weights that keeps their effective sample size.

    Found by bisection: 1 if the weights are even enough as they are, 0 if they are not even without the factor. Should
    the effective sample size not fall steadily as the power grows, it is one of the powers at which it falls below.

    Args:
        log_weights: with the factor in them at its full power. `[R, N]`.
        log_factor: its logarithm, finite. `[R, N]`.
        ess_target: as a fraction of N.

    Returns:
        Float64 `[R]`.

    Examples:
        >>> log_weights = torch.tensor([[0.0, -10.0], [0.0, -0.1]])
        >>> inverse_temperature(log_weights, log_weights, ess_target=0.9).tolist()
        [0.0693..., 1.0]
    """
    needed = ess_target * log_weights.shape[-1]

    def even_enough(power: Tensor) -> Tensor:
        return effective_sample_size(log_weights - (1 - power)[:, None] * log_factor) >= needed

    low = torch.zeros(log_weights.shape[0], dtype=torch.float64, device=log_weights.device)
    high = torch.ones_like(low)
    whole = even_enough(high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        enough = even_enough(middle)
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return torch.where(whole, 1.0, low)
