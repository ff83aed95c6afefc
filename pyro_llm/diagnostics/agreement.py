"""Whether runs, or Markov chains, agree: R-hat and ESS of scalar functionals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_llm.diagnostics.arviz import import_arviz
from pyro_llm.infer.posterior import Posterior

MIN_RUNS = 4
"""R-hat and ESS compare runs, and fewer have no spread to speak of (Vehtari et al. 2021, Section 4)."""

MIN_DRAWS = 4
ALARM = 0.001
"""The probability that R-hat of independent draws exceeds `r_hat_threshold`."""


class Convergence(NamedTuple):
    """Of one functional.

    Attributes:
        r_hat: rank-normalised split R-hat.
        ess: bulk effective sample size of all runs together.
    """

    r_hat: float
    ess: float


def scalar_functionals(
    posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Numbers that sum up each particle: `[R, N]` by name.

    Of texts their `length`, `log_reward` (the log-likelihood) and `log_probability` (the log-prior); otherwise the
    latent sites that are real numbers and `log_likelihood`; and functionals of a text that are numbers or truth values.
    """
    if not posterior.has_texts:
        sites = {
            name: value.detach().cpu().double().numpy()
            for name, value in posterior.samples.items()
            if value.dim() == 2 and value.is_floating_point()
        }
        return {**sites, "log_likelihood": posterior.log_likelihood.numpy()}
    columns = {"log_reward": posterior.log_likelihood.numpy(), "log_probability": posterior.log_prior.numpy()}
    if posterior.written.single:
        columns = {"length": posterior.written.lengths.astype(np.float64), **columns}
        for name, fn in (functionals or {}).items():
            values = {text: fn(text) for text in dict.fromkeys(posterior.texts.flat)}
            if all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values.values()):
                flat = [float(values[text]) for text in posterior.texts.flat]
                columns[name] = np.array(flat).reshape(posterior.texts.shape)
    return columns


def convergence(
    posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]] | None = None
) -> dict[str, Convergence]:
    """R-hat and bulk ESS of each scalar functional over runs, or over the draws of Markov chains.

    By ArviZ, after Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and
    localization: an improved R-hat". Weighted particles are first resampled within each run, as many as there are, in
    an order of no meaning. The ESS of several runs sees how much these differ, which within one run nothing shows: the
    particles of a run share ancestors, and ArviZ takes them as independent. Of Markov chains whose sweeps keep their
    populations, it is the means over these that are looked at.

    Args:
        posterior: of four runs, or chains, at least; of fewer there is nothing to compare.
        functionals: functions of a text by name, `{"right": lambda text: answer(text) == "95"}`, say.

    Returns:
        By name. Empty for fewer than four runs of positive evidence, or fewer than four particles. NaN where a
        functional is the same everywhere, or not finite.
    """
    alive = posterior.log_evidence.isfinite().numpy()
    if posterior.chains is not None:
        alive = np.ones_like(alive)
    if alive.sum() < MIN_RUNS or posterior.num_particles < MIN_DRAWS:
        return {}
    columns = scalar_functionals(posterior, functionals)
    if posterior.chains is None:
        slots = _systematic(posterior.log_weights.exp().numpy()[alive])
        drawn = {name: np.take_along_axis(values[alive], slots, 1) for name, values in columns.items()}
    elif posterior.chains.iterations is not None:
        drawn = {name: _sweep_means(posterior, posterior.chains.iterations, values) for name, values in columns.items()}
    else:
        drawn = columns
    return {name: _convergence(values) for name, values in drawn.items()}


def known(found: Mapping[str, Convergence]) -> dict[str, Convergence]:
    """Those functionals of which R-hat can be told."""
    return {name: value for name, value in found.items() if not math.isnan(value.r_hat)}


def r_hat_threshold(num_chains: int, num_draws: float, at_least: float = 1.01) -> float:
    r"""What R-hat of independent normal draws exceeds with probability 0.001, or `at_least` if that is more.

    With m chains of n draws, $\hat R^2 = 1 + (F - 1) / n$, F having the distribution of that name with m - 1 and
    m (n - 1) degrees of freedom; here its limit for large n, without the 1.

    >>> round(r_hat_threshold(4, 5), 2), r_hat_threshold(4, 10_000)
    (1.44, 1.01)
    """
    from scipy.stats import chi2  # takes a second to import

    freedom = num_chains - 1
    return max(at_least, math.sqrt(1 + float(chi2.ppf(1 - ALARM, freedom)) / freedom / num_draws))


def _sweep_means(
    posterior: Posterior, iterations: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weighted mean over the population of each sweep. `[R, N]` -> `[R, iterations]`."""
    weights = posterior.log_weights.exp().numpy()
    weighed = np.where(weights > 0, weights * values, 0.0)
    sums = [np.stack([np.bincount(iterations, row) for row in rows]) for rows in (weighed, weights)]
    return sums[0] / sums[1]


def _convergence(draws: NDArray[np.float64]) -> Convergence:
    if not np.isfinite(draws).all() or np.ptp(draws) == 0 or draws.shape[1] < MIN_DRAWS:
        return Convergence(math.nan, math.nan)
    if (np.ptp(draws, axis=1) == 0).all():  # each chain stands still, and not at the same place
        return Convergence(math.inf, float(len(draws)))
    arviz = import_arviz()
    r_hat, ess = (float(np.asarray(measure(draws))) for measure in (arviz.rhat, arviz.ess))
    return Convergence(r_hat, ess)


def _systematic(weights: NDArray[np.float64]) -> NDArray[np.int64]:
    """Slots drawn by systematic resampling with its uniform at one half, shuffled, always alike. `[R, N]`."""
    size = weights.shape[1]
    edges = np.cumsum(weights, axis=1)
    points = (np.arange(size) + 0.5) / size
    slots = np.stack([np.searchsorted(edge / edge[-1], points) for edge in edges])
    return np.random.default_rng(0).permuted(slots, axis=1)
