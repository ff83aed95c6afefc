"""Markov chains: whether they agree, mix, and swap."""

from __future__ import annotations

import numpy as np

from pyro_llm.diagnostics.agreement import MIN_DRAWS, MIN_RUNS, convergence, known, r_hat_threshold
from pyro_llm.diagnostics.examine.examination import Examination
from pyro_llm.infer.markov_chains import MarkovChains, Tempering


def examine_chains(case: Examination) -> None:
    """Findings of lengths (`few-draws`, `one-chain`, `few-chains`, `short-chains`), of mixing and of the ladder.

    The latter are `chains-disagree` and `slow-chains`, `no-swaps` and `no-round-trips`.
    """
    chains = case.posterior.chains
    if chains is None:
        return
    _lengths(case, chains)
    _mixing(case, chains)
    if chains.tempering is not None:
        _ladder(case, chains.tempering)


def _lengths(case: Examination, chains: MarkovChains) -> None:
    posterior, least = case.posterior, case.thresholds.draws
    each = _draws_by_chain(case, chains)
    total = case.figures["draws"] = posterior.num_runs * each
    if total < least:
        case.find(
            "few-draws", "serious", total, least,
            f"There {'is' if total == 1 else 'are'} {total} draw{'' if total == 1 else 's'} of all chains: a handful "
            "of texts is no distribution, and successive draws are alike besides.",
            "Take more iterations, and the budget for them if there is one.",
        )  # fmt: skip
    if posterior.num_runs == 1:
        case.find(
            "one-chain", "note", 1, MIN_RUNS,
            "A single chain gives no check of convergence: R-hat compares four or more.",
            "Take num_chains=4.",
        )  # fmt: skip
    elif posterior.num_runs < MIN_RUNS:
        case.find(
            "few-chains", "note", posterior.num_runs, MIN_RUNS,
            f"Whether the {posterior.num_runs} chains have converged was not looked at: R-hat compares four or more.",
            "Take num_chains=4.",
        )  # fmt: skip
    elif each < MIN_DRAWS and total >= least:
        case.find(
            "short-chains", "note", each, MIN_DRAWS,
            f"Whether the chains have converged was not looked at: R-hat compares four draws or more, not {each}.",
            "Take more iterations.",
        )  # fmt: skip


def _draws_by_chain(case: Examination, chains: MarkovChains) -> int:
    """A sweep that keeps its whole population makes one draw of it."""
    return case.posterior.num_particles if chains.iterations is None else len(np.unique(chains.iterations))


def _mixing(case: Examination, chains: MarkovChains) -> None:
    posterior, thresholds = case.posterior, case.thresholds
    found = known(convergence(posterior, case.functionals))
    for name, value in found.items():
        case.figures[f"R-hat of {name}"] = value.r_hat
        case.figures[f"ESS of {name}"] = value.ess
    if not found:
        return
    worst = max(found, key=lambda name: found[name].r_hat)
    r_hat = found[worst].r_hat
    each = _draws_by_chain(case, chains)
    at_most = r_hat_threshold(2 * posterior.num_runs, each // 2, thresholds.r_hat, len(found))
    advice = "Take more iterations, more particles, ancestor_sampling=True, or ParallelTempering."
    if r_hat > at_most:
        case.find(
            "chains-disagree", "serious" if r_hat > 1.5 else "warning", r_hat, at_most,
            f"The chains disagree about {worst}: R-hat is {r_hat:.2f}, and {each} independent "
            f"{'draws' if chains.iterations is None else 'sweeps'} of each would keep it below {at_most:.2f}.", advice,
        )  # fmt: skip
    slowest = min(found, key=lambda name: found[name].ess)
    if found[slowest].ess < thresholds.chain_ess:
        draws, worth = ("draws", "ones") if chains.iterations is None else ("populations", "draws")
        case.find(
            "slow-chains", "warning", found[slowest].ess, thresholds.chain_ess,
            f"The {draws} of all chains are worth {found[slowest].ess:.0f} independent {worth}, for {slowest}.", advice,
        )  # fmt: skip


def _ladder(case: Examination, tempering: Tempering) -> None:
    rates, trips = tempering.swap_rates, tempering.round_trips
    pair = int(np.nanargmin(rates)) if not np.isnan(rates).all() else 0
    least = case.figures["swap rate, lowest"] = float(rates[pair])
    case.figures["round trips"] = float(trips.sum())
    if least < case.thresholds.swap_rate:
        low, high = tempering.inverse_temperatures[pair], tempering.inverse_temperatures[pair + 1]
        case.find(
            "no-swaps", "warning", least, case.thresholds.swap_rate,
            f"Between the rungs {pair} and {pair + 1} (inverse temperatures {low:.3g} and {high:.3g}) only {least:.0%} "
            "of the swaps are accepted: what is above hardly hears of what is below.",
            "Take more rungs, or let the ladder learn: num_rungs in place of inverse_temperatures, a longer warmup.",
        )  # fmt: skip
        return
    # A round trip takes 2 (K - 1) moves at the least, and one tries to move in each iteration.
    possible = case.posterior.num_particles / (2 * (len(tempering.inverse_temperatures) - 1))
    if trips.sum() == 0 and possible >= 10:
        case.find(
            "no-round-trips", "warning", 0, 1,
            f"No replica has been from the first rung to the last and back, though {possible:.0f} times were possible.",
            "Take more iterations, or fewer rungs.",
        )  # fmt: skip
