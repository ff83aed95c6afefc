"""Fitting raters: draws from the posterior of their errors."""

from __future__ import annotations

import warnings
from typing import Any, Literal, cast, get_args

import pyro
import pyro.poutine as poutine
import torch
from pyro.infer import MCMC, NUTS, SVI, Trace_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, init_to_median
from pyro.optim import ClippedAdam
from torch import Tensor

from pyro_llm.errors import LowSampleSizeWarning, OptionError, RatingsError
from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.weights import effective_sample_size
from pyro_llm.raters.posterior import RaterPosterior
from pyro_llm.raters.program import RaterPrior, rater_program
from pyro_llm.raters.ratings import Ratings
from pyro_llm.validation import as_integer

FitMethod = Literal["svi", "nuts"]
MIN_DRAWS = 4
SITES = ("prevalence", "sensitivity", "specificity")


def fit_raters(
    ratings: Ratings,
    prior: RaterPrior | None = None,
    method: FitMethod = "svi",
    *,
    draws: int = 1000,
    steps: int = 300,
    warmup: int = 200,
    chains: int = 1,
) -> RaterPosterior:
    """The posterior of the raters' errors given ratings, by inference in `rater_program`.

    `"svi"` fits a normal law of full rank on the unconstrained scale (`AutoMultivariateNormal`) and corrects it: four
    times as many draws from it are weighed by p / q and resampled, so that what error of the approximation the weights
    can reach is gone; `fit["ess"]` is their effective sample size, scaled to the number kept. `"nuts"` runs Hamiltonian
    chains one after another, and `fit` holds R-hat and the effective sample size of the worst site. Randomness is that
    of `pyro.set_rng_seed`; the parameter store is left as it was.

    Args:
        ratings: what was said, and what is known of the truth.
        prior: of the errors; `RaterPrior()` by default, better than chance.
        method: `"svi"` or `"nuts"`.
        draws: how many draws are kept, of each chain.
        steps: of the optimiser of `"svi"`.
        warmup: of each chain of `"nuts"`.
        chains: of `"nuts"`.

    Raises:
        OptionError: there is no such method, or a count is below 1 (draws of `"nuts"` below 4, too few for R-hat).
        RatingsError: there are no items.

    Warns:
        LowSampleSizeWarning: the weights of `"svi"` are worth fewer than a tenth of the draws: take `"nuts"`.

    Examples:
        >>> pyro.set_rng_seed(0)
        >>> said = Ratings.of([[1, 1], [1, 0], [0, 0], [0, 1]] * 10, truth=[1, 1, 0, 0] * 10, raters=["good", "coin"])
        >>> posterior = fit_raters(said, steps=200)
        >>> bool(posterior.sensitivity.mean(0)[0] > 0.85)
        True
    """
    prior = prior or RaterPrior()
    for name, count in {"draws": draws, "steps": steps, "warmup": warmup, "chains": chains}.items():
        if (integer := as_integer(count)) is None or integer < 1:
            raise OptionError(f"{name}={count!r}: give an integer of at least 1.")
    if method not in get_args(FitMethod):
        raise OptionError(f"There is no method {method!r}; choose one of {', '.join(map(repr, get_args(FitMethod)))}.")
    if method == "nuts" and draws < MIN_DRAWS:
        raise OptionError(f"draws={draws}: R-hat needs at least {MIN_DRAWS} of each chain.")
    if not ratings.num_items:
        raise RatingsError("There are no items to fit raters to; for the prior alone take RaterPosterior.from_prior.")
    if method == "nuts":
        samples, fit = _nuts(ratings, prior, draws, warmup, chains)
    else:
        samples, fit = _svi(ratings, prior, draws, steps)
        chains = 1
    fit |= {"method": method, "items": ratings.num_items, "ratings": len(ratings.score)}
    fit |= {f"prior_{name}": list(counts) for name, counts in vars(prior).items()}
    prevalence, sensitivity, specificity = (samples[site] for site in SITES)
    return RaterPosterior(ratings.raters, prevalence, sensitivity, specificity, chains, fit)


def _svi(ratings: Ratings, prior: RaterPrior, draws: int, steps: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with poutine.block(), pyro.get_param_store().scope():
        guide = AutoMultivariateNormal(rater_program, init_loc_fn=init_to_median, init_scale=0.2)
        optimiser = ClippedAdam({"lr": 0.1, "lrd": 0.05 ** (1 / steps)})
        loss = Trace_ELBO(num_particles=8, vectorize_particles=True, max_plate_nesting=1)
        svi = SVI(rater_program, guide, optimiser, loss)
        for _ in range(steps):
            svi.step(ratings, prior)
        with torch.no_grad():
            with pyro.plate("draws", 4 * draws, dim=-2):
                proposed = poutine.trace(guide).get_trace(ratings, prior)
                target = poutine.trace(poutine.replay(rater_program, proposed)).get_trace(ratings, prior)
            log_weights = _log_density(target, 4 * draws) - _log_density(proposed, 4 * draws)
    ess = float(effective_sample_size(log_weights))
    if ess < 0.1 * len(log_weights):
        warnings.warn(
            f"The normal approximation fits badly: {len(log_weights)} draws from it are worth {ess:.0f} of the "
            'posterior. Take more steps, or method="nuts".',
            LowSampleSizeWarning,
            stacklevel=3,
        )
    chosen = resampling_scheme("systematic")(log_weights[None], draws).ancestors[0]
    samples: dict[str, Tensor] = {site: target.nodes[site]["value"][chosen] for site in SITES}  # type: ignore[index]
    return samples | {"prevalence": samples["prevalence"].reshape(-1)}, {"steps": steps, "ess": ess / 4}


def _log_density(trace: poutine.Trace, draws: int) -> Tensor:
    """The log-density of each draw along the plate of draws. `[draws]`."""
    trace.compute_log_prob()
    total = torch.zeros(draws, dtype=torch.float64)
    for node in trace.nodes.values():
        if node["type"] == "sample" and node["log_prob"].dim() == 2:  # plates are sites too, of no dimension
            total += node["log_prob"].sum(-1)
    return total


def _nuts(
    ratings: Ratings, prior: RaterPrior, draws: int, warmup: int, chains: int
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from pyro.ops.stats import effective_sample_size as autocorrelated_size
    from pyro.ops.stats import split_gelman_rubin

    by_chain: list[dict[str, Tensor]] = []
    with poutine.block():
        for _ in range(chains):
            mcmc = MCMC(NUTS(rater_program), draws, warmup, disable_progbar=True)
            mcmc.run(ratings, prior)
            by_chain.append(cast(dict[str, Tensor], mcmc.get_samples()))
    samples = {site: torch.stack([chain[site] for chain in by_chain]) for site in SITES}
    fit = {
        "warmup": warmup,
        "ess": min(float(autocorrelated_size(samples[site]).min()) for site in SITES),
        "r_hat": max(float(split_gelman_rubin(samples[site]).max()) for site in SITES),
    }
    return {site: sample.flatten(0, 1) for site, sample in samples.items()}, fit
