"""Comparing programs: by their evidence, and, where there are data, by how they predict a datum left out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pyro_llm.diagnostics.arviz import for_version, import_arviz
from pyro_llm.errors import AllParticlesDeadError, CapabilityError, OptionError
from pyro_llm.infer.posterior import Posterior

if TYPE_CHECKING:
    from pandas import DataFrame


def compare(posteriors: Mapping[str, Posterior], prior: Mapping[str, float] | None = None) -> DataFrame:
    r"""Programs of the same observations by their evidence, the best first.

    The posterior probability of program m is $p_m Z_m / \sum_k p_k Z_k$ (Kass & Raftery 1995). `az.compare` ranks by
    the expected log predictive density of a datum left out, which acceptances by a reward do not have (see `loo`).
    Evidence of rewards compares programs, prompts or proposals under the same rewards: it is the probability that all
    of them accept. Under different rewards it compares nothing.

    Args:
        posteriors: by the name of the program; of weighted particles, or Markov chains.
        prior: probabilities of the programs, in any scale. Equal by default.

    Returns:
        A row for each program, with columns `rank`, `log_evidence`, its standard error `se` over runs (NaN where the
        runs do not tell), `log_bayes_factor` (the difference from the best, 0 or less), its standard error `dse` (runs
        of two programs being independent), and `probability`.

    Raises:
        OptionError: no posteriors, or a prior that is not a positive number for each.
        AllParticlesDeadError: no program has positive evidence.
        NoWeightsError: one is the result of a search.

    Example:
        >>> import torch, pyro, pyro.distributions as dist
        >>> from pyro_llm.infer import Importance
        >>> def coin(heads):
        ...     pyro.sample("n", dist.Binomial(10, heads), obs=torch.tensor(7.0))
        >>> fair, biased = (Importance(coin, num_particles=2).run(torch.tensor(p)) for p in (0.5, 0.7))
        >>> compare({"fair": fair, "biased": biased})["probability"].round(2).to_dict()
        {'biased': 0.69, 'fair': 0.31}
    """
    from pandas import DataFrame

    if not posteriors:
        raise OptionError("There is no posterior to compare: give a dictionary of them, by name.")
    shares = dict.fromkeys(posteriors, 1.0) if prior is None else dict(prior)
    if shares.keys() != posteriors.keys() or not all(math.isfinite(p) and p > 0 for p in shares.values()):
        raise OptionError(f"prior={prior!r}: give a positive number for each of {', '.join(map(repr, posteriors))}.")
    evidence = {name: posterior.pooled_log_evidence() for name, posterior in posteriors.items()}
    names = sorted(evidence, key=lambda name: -evidence[name].estimate)
    best = evidence[names[0]]
    if best.estimate == -math.inf:
        raise AllParticlesDeadError("No program has positive evidence, so there is nothing to compare.")
    log_evidence = np.array([evidence[name].estimate for name in names])
    error = np.array([evidence[name].standard_error for name in names])
    odds = np.exp(log_evidence - best.estimate) * [shares[name] for name in names]
    columns = {
        "rank": np.arange(len(names)),
        "log_evidence": log_evidence,
        "se": error,
        "log_bayes_factor": log_evidence - best.estimate,
        "dse": np.where(np.arange(len(names)) == 0, 0.0, np.hypot(error, best.standard_error)),
        "probability": odds / odds.sum(),
    }
    return DataFrame(columns, index=names)


def loo(posterior: Posterior) -> Any:
    """ArviZ's `loo` where it means something: the expected log density of each observed site, were it left out.

    That is so if the observed sites are data, independent of each other given the latent values. Rewards that accept
    texts are none: what is "left out" would be the acceptance of one prefix, with those of the longer ones left in.
    The result goes into `az.compare`, for programs of the same data.

    Weighted particles are resampled first, as many as there are, by a generator of its own that always begins alike.

    Raises:
        CapabilityError: the posterior is of texts, or has no record of the factor of each observed site (Markov
            chains, resampled draws).
        NoWeightsError: it is the result of a search.
    """
    advice = "Compare such programs by their evidence, `pyro_llm.diagnostics.compare`."
    if posterior.has_texts:
        raise CapabilityError(
            "The observations of this program are acceptances of texts, each judged from the same beginning: they are "
            f"not data of which one could be left out. {advice}"
        )
    weights = posterior.pooled_log_weights.exp().flatten().numpy()
    stats = posterior.stats
    if not stats.num_steps:
        raise CapabilityError(
            "This posterior has no record of the factor of each observed site: Markov chains and resampled draws keep "
            f"none. Use that of SMC or Importance, before `resample`. {advice}"
        )
    by_particle = np.take_along_axis(stats.log_factor, stats.lineages, 2).transpose(0, 2, 1)
    drawn = np.random.default_rng(0).choice(weights.size, weights.size, p=weights / weights.sum())
    values = by_particle.reshape(weights.size, -1)[drawn][None]
    coords = {"chain": [0], "draw": np.arange(weights.size)}
    groups = {
        "posterior": xr.Dataset({"particle": (("chain", "draw"), drawn[None])}, coords),
        "log_likelihood": xr.Dataset(
            {"factor": (("chain", "draw", "site"), values)}, {**coords, "site": np.array(stats.names, dtype=object)}
        ),
    }
    arviz = import_arviz()
    # The particles are independent draws as far as one run can tell: ArviZ must not estimate that from their order.
    return arviz.loo(for_version(xr.DataTree.from_dict(groups), arviz), reff=1.0, pointwise=True)
