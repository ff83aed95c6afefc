"""Markov chains: whether they agree, mix, and swap."""

from __future__ import annotations

import numpy as np

from pyro_llm.diagnostics.agreement import convergence, known, r_hat_threshold
from pyro_llm.diagnostics.examine.examination import Examination
from pyro_llm.infer.markov_chains import MarkovChains, Tempering


def examine_chains(case: Examination) -> None:
    """Findings `few-draws`, `one-chain`, `chains-disagree`, `slow-chains`, `no-swaps` and `no-round-trips`."""
    chains = case.posterior.chains
    if chains is None:
        return
    _lengths(case, chains)
    _mixing(case)
    if chains.tempering is not None:
        _ladder(case, chains.tempering)


def _lengths(case: Examination, chains: MarkovChains) -> None:
    posterior, least = case.posterior, case.thresholds.draws
    # A sweep that keeps its whole population makes one draw of it.
    each = posterior.num_particles if chains.iterations is None else len(np.unique(chains.iterations))
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
            "one-chain", "note", 1, 4,
            "A single chain gives no check of convergence: R-hat compares four or more.",
            "Take num_chains=4.",
        )  # fmt: skip


def _mixing(case: Examination) -> None:
    posterior, thresholds = case.posterior, case.thresholds
    found = known(convergence(posterior, case.functionals))
    for name, value in found.items():
        case.figures[f"R-hat of {name}"] = value.r_hat
        case.figures[f"ESS of {name}"] = value.ess
    if not found:
        return
    worst = max(found, key=lambda name: found[name].r_hat)
    r_hat = found[worst].r_hat
    at_most = r_hat_threshold(2 * posterior.num_runs, posterior.num_particles / 2, thresholds.r_hat)
    advice = "Take more iterations, more particles, ancestor_sampling=True, or ParallelTempering."
    if r_hat > at_most:
        case.find(
            "chains-disagree", "serious" if r_hat > 1.5 else "warning", r_hat, at_most,
            f"The chains disagree about {worst}: R-hat is {r_hat:.2f}, and {posterior.num_particles} independent draws "
            f"of each would keep it below {at_most:.2f}.", advice,
        )  # fmt: skip
    slowest = min(found, key=lambda name: found[name].ess)
    if found[slowest].ess < thresholds.chain_ess:
        case.find(
            "slow-chains", "warning", found[slowest].ess, thresholds.chain_ess,
            f"The draws of all chains are worth {found[slowest].ess:.0f} independent ones, for {slowest}.", advice,
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
