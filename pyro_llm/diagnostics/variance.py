"""The error of a single run's evidence, without other runs."""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.errors import CapabilityError
from pyro_llm.infer.posterior import Posterior
from pyro_llm.ops.genealogy import roots
from pyro_llm.ops.variance import relative_variance

_ALGORITHMS = ("SMC", "Importance")


def evidence_variance(posterior: Posterior) -> Tensor:
    r"""The relative variance of each run's evidence estimate, Var(Z-hat) / Z^2, estimated from that run alone.

    The estimate of Lee & Whiteley (2018), "Variance estimation in the particle filter" (times Z-hat squared it is
    unbiased, and it is consistent; see `pyro_llm.ops.variance`). It reads off the genealogy which
    particles descend from the same first one. It takes no further calls of the language model or of rewards, holds for
    multinomial resampling only, and may be negative; it is 1 where all particles descend from one first particle. Its
    square root is the standard error of log Z-hat, where small. For the error of several runs, resampled by any
    scheme, there is `Posterior.pooled_log_evidence`.

    Returns:
        Float64 `[R]`; NaN for a single particle, or a dead run.

    Raises:
        CapabilityError: the runs were resampled by another scheme than the multinomial, or were exchanged, or the
            posterior is not that of a particle filter.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import SMC
        >>> def two_coins():
        ...     for toss in range(2):
        ...         p = pyro.sample(f"p_{toss}", dist.Beta(2.0, 2.0))
        ...         pyro.sample(f"heads_{toss}", dist.Bernoulli(p), obs=torch.tensor(1.0))
        >>> pyro.set_rng_seed(0)
        >>> posterior = SMC(two_coins, 1000, ess_threshold=1, resampling="multinomial").run()
        >>> 0.0001 < evidence_variance(posterior).item() < 0.001  # Var(p) / E[p]^2 / N is 0.0002 a toss
        True
    """
    settings, stats = posterior.settings, posterior.stats
    if settings.get("algorithm") not in _ALGORITHMS or "resampled_from" in settings:
        raise CapabilityError(
            "The variance of the evidence can be read off a single run of a particle filter only: off what "
            f"{' or '.join(_ALGORITHMS)} returned, not off {settings.get('algorithm', 'another')} "
            f"{'resampled ' if 'resampled_from' in settings else ''}posteriors."
        )
    scheme = settings.get("resampling")
    if stats.resampled.any() and scheme != "multinomial":
        raise CapabilityError(
            f"These runs were resampled by the {scheme!r} scheme; the variance from a single run (Lee & Whiteley, "
            '2018) holds for multinomial resampling only. Set resampling="multinomial", or take several runs '
            "(num_runs) and `posterior.pooled_log_evidence()`, which holds for any scheme."
        )
    if stats.num_exchanges:
        raise CapabilityError(
            "These runs were exchanged (island_threshold), so that no run stands by itself. Their common error is that "
            "of `posterior.pooled_log_evidence()`."
        )
    founders = roots(torch.from_numpy(stats.ancestors))
    return relative_variance(posterior.log_weights, founders, torch.from_numpy(stats.resampled.sum(-1)))
