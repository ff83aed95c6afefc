"""Whether runs, or Markov chains, agree: R-hat and ESS of scalar functionals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyro_llm.diagnostics.arviz import import_arviz
from pyro_llm.diagnostics.functionals import are_numbers, check_functionals, of_distinct
from pyro_llm.errors import OptionError
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
        ess: bulk effective sample size of all runs together; of chains whose sweeps keep their populations, the number
            of independent draws whose mean would be as exact as that of all these populations.
    """

    r_hat: float
    ess: float


def scalar_functionals(
    posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Numbers that sum up each particle: `[R, N]` by name.

    Of texts their `length`, `log_reward` (the log-likelihood), `log_probability` (the log-prior) and the functionals,
    otherwise `log_likelihood`; and the latent sites that are one real number for each particle.

    Raises:
        OptionError: there are functionals, and not one text for each particle, or what they give is no number.
    """
    check_functionals(posterior, functionals, of_one_text=True)
    columns = {"log_likelihood": posterior.log_likelihood.numpy()}
    if posterior.has_texts:
        columns = {"log_reward": columns["log_likelihood"], "log_probability": posterior.log_prior.numpy()}
        if posterior.written.single:
            columns = {"length": posterior.written.lengths.astype(np.float64), **columns}
    for name, fn in (functionals or {}).items():
        values = of_distinct(fn, posterior.texts)
        if not are_numbers(values.values()):
            raise OptionError(
                f"The functional {name!r} gives {next(iter(values.values()))!r}, and R-hat is of numbers or truth "
                'values: say whether the text states an answer, such as lambda text: answer(text) == "95".'
            )
        columns[name] = np.array([float(values[text]) for text in posterior.texts.flat]).reshape(posterior.texts.shape)
    for name, value in posterior.samples.items():
        if value.dim() == 2 and value.is_floating_point():
            columns[f"site {name}" if name in columns else name] = value.detach().cpu().double().numpy()
    return columns


def convergence(
    posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]] | None = None
) -> dict[str, Convergence]:
    """R-hat and bulk ESS of each scalar functional over runs, or over the draws of Markov chains.

    By ArviZ, after Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), "Rank-normalization, folding, and
    localization: an improved R-hat". Weighted particles are first resampled within each run, as many as there are, in
    an order of no meaning. The ESS of several runs sees how much these differ, which within one run nothing shows: the
    particles of a run share ancestors, and ArviZ takes them as independent. Of Markov chains whose sweeps keep their
    populations, R-hat compares the means over these; as such a mean is worth more than a draw, the ESS is the
    functional's posterior variance over the squared Monte Carlo standard error of the mean of these means.

    Args:
        posterior: of four runs, or chains, at least; of fewer there is nothing to compare.
        functionals: functions of a text by name, `{"right": lambda text: answer(text) == "95"}`, say.

    Returns:
        By name. Empty for fewer than four runs of positive evidence, or fewer than four particles. NaN where a
        functional is the same everywhere, or not finite.

    Raises:
        OptionError: as in `scalar_functionals`.
    """
    alive = posterior.log_evidence.isfinite().numpy()
    if posterior.chains is not None:
        alive = np.ones_like(alive)
    if alive.sum() < MIN_RUNS or posterior.num_particles < MIN_DRAWS:
        return {}
    columns = scalar_functionals(posterior, functionals)
    if posterior.chains is None:
        slots = _systematic(posterior.log_weights.exp().numpy()[alive])
        return {name: _convergence(np.take_along_axis(values[alive], slots, 1)) for name, values in columns.items()}
    iterations = posterior.chains.iterations
    if iterations is None:
        return {name: _convergence(values) for name, values in columns.items()}
    weights = posterior.log_weights.exp().numpy()
    return {name: _of_populations(iterations, weights, values) for name, values in columns.items()}


def known(found: Mapping[str, Convergence]) -> dict[str, Convergence]:
    """Those functionals of which R-hat can be told."""
    return {name: value for name, value in found.items() if not math.isnan(value.r_hat)}


def r_hat_threshold(num_chains: int, num_draws: int, at_least: float = 1.01, num_functionals: int = 1) -> float:
    r"""What R-hat of independent normal draws exceeds with probability 0.001, or `at_least` if that is more.

    With m chains of n draws, $\hat R^2 = 1 + (F - 1) / n$, F having the distribution of that name with m - 1 and
    m (n - 1) degrees of freedom. The highest of several functionals exceeds it with probability 0.001 at most (by
    Bonferroni's inequality). A split R-hat has twice as many chains, of half as many draws.

    >>> round(r_hat_threshold(8, 4), 2), r_hat_threshold(8, 10_000)
    (1.43, 1.01)
    """
    from scipy.stats import f  # takes a second to import

    between, within = num_chains - 1, num_chains * (num_draws - 1)
    quantile = float(f.isf(ALARM / num_functionals, between, within))
    return max(at_least, math.sqrt(1 + (quantile - 1) / num_draws))


def r_hat_threshold_of_runs(num_runs: int, worth: float) -> float:
    r"""What R-hat of runs of many particles, each worth so many independent draws, exceeds with probability 0.001.

    The variance within runs is known well, that between them is a multiple of $\chi^2$ with m - 1 degrees of freedom.

    >>> round(r_hat_threshold_of_runs(4, 5), 2)
    1.44
    """
    from scipy.stats import chi2

    freedom = num_runs - 1
    return math.sqrt(1 + float(chi2.isf(ALARM, freedom)) / freedom / worth)


def _of_populations(
    iterations: NDArray[np.int64], weights: NDArray[np.float64], values: NDArray[np.float64]
) -> Convergence:
    """From the weighted populations of Markov chains, `[R, N]`, and the iterations that made them, `[N]`."""
    weighed = np.where(weights > 0, weights * values, 0.0)
    sums = [np.stack([np.bincount(iterations, row) for row in rows]) for rows in (weighed, weights)]
    means = sums[0] / sums[1]
    found = _convergence(means)
    if not math.isfinite(found.r_hat):
        return found
    squares = np.where(weights > 0, weights * np.square(values - weighed.sum() / len(values)), 0.0)
    means_worth = float(np.asarray(import_arviz().ess(means, method="mean")))
    return Convergence(found.r_hat, float(squares.sum() / len(values) / means.var(ddof=1)) * means_worth)


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
