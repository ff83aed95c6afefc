"""Importance sampling over any Pyro program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro_llm.budget import Budget
from pyro_llm.infer.options import ParticleMode
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.smc import SMC


class Importance(SMC):
    r"""Draw whole executions from the prior and weigh them by their observed factors: `SMC` that never resamples.

    The target and the evidence estimate are those of `SMC`; $\hat Z$ is the mean weight, and unbiased for every N.
    The effective sample size falls exponentially with the number of steps. Kong, Liu & Wong (1994), "Sequential
    imputations and Bayesian missing data problems".

    It costs one execution of the program on all particles: each token of N texts forwarded once by the language model,
    and rewards asked as in `SMC`.

    Args:
        model: the program.
        num_particles: N, in each run.
        num_runs: R independent runs, executed in one batch.
        particles: `"vectorized"`, or `"scalar"` for programs that branch in Python on sampled values.
        max_plate_nesting: how many vectorised plates the program nests.
        progress: as for `SMC`.
        budget: as for `SMC`.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def coin(heads):
        ...     p = pyro.sample("p", dist.Uniform(0.0, 1.0))
        ...     pyro.sample("heads", dist.Binomial(10, p), obs=heads)
        >>> pyro.set_rng_seed(0)
        >>> posterior = Importance(coin, num_particles=10_000).run(torch.tensor(7.0))
        >>> round(posterior.log_evidence.exp().item(), 2)  # 1 / 11
        0.09
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        num_runs: int = 1,
        particles: ParticleMode = "vectorized",
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(
            model,
            num_particles,
            ess_threshold=0,
            num_runs=num_runs,
            particles=particles,
            max_plate_nesting=max_plate_nesting,
            progress=progress,
            budget=budget,
        )

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        return {name: value for name, value in settings.items() if name not in ("ess_threshold", "resampling")}
