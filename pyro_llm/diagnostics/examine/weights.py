"""Weighted particles: how many there are, how many the weights leave, and whether runs agree."""

from __future__ import annotations

import math

import numpy as np

from pyro_llm.diagnostics.agreement import convergence, known, r_hat_threshold_of_runs
from pyro_llm.diagnostics.display import no_error_bars
from pyro_llm.diagnostics.examine.examination import Examination
from pyro_llm.diagnostics.pareto import pareto_k, pareto_k_threshold


def examine_weights(case: Examination) -> None:
    """Findings `few-particles`, `low-ess`, `heavy-tail`, `evidence-spread` and `runs-disagree`."""
    if not case.is_weighted or not case.alive.any():
        return
    _sample_sizes(case)
    _tail(case)
    if case.posterior.num_runs > 1:
        _evidence(case)
        _agreement(case)


def _sample_sizes(case: Examination) -> None:
    posterior, least = case.posterior, case.thresholds.particles
    total = posterior.num_runs * posterior.num_particles
    case.figures["particles"] = total
    if total < least:
        case.find(
            "few-particles", "serious", total, least,
            f"There {'are' if total > 1 else 'is'} {total} particle{'s' if total > 1 else ''} in all: a handful of "
            "texts is no distribution, and resampling soon makes them copies of one.",
            "Take more particles: 32 to start with, num_particles=32.",
        )  # fmt: skip
    ess = case.figures["ess"] = float(1 / np.square(case.shares).sum())
    case.figures["ess by run, lowest"] = float(posterior.ess().min())
    if ess < case.thresholds.ess and total >= least:
        case.find(
            "low-ess", "warning", ess, case.thresholds.ess,
            f"The weights are worth {ess:.1f} equally weighted particles of {total}: the standard error of a "
            f"probability of one half is about {0.5 / math.sqrt(ess):.2f}.",
            "Take more particles, or let the rewards work earlier and more gently: a reward after each step, an "
            "inverse temperature below 1, tempering=AdaptiveTempering().",
        )  # fmt: skip


def _tail(case: Examination) -> None:
    posterior, thresholds = case.posterior, case.thresholds
    if posterior.num_particles < thresholds.pareto_weights:
        return
    figures = [pareto_k(row.numpy()) for row in posterior.log_weights[case.alive]]
    known = [value for value in figures if not math.isnan(value)]
    k_hat = case.figures["pareto k-hat, highest"] = max(known, default=math.nan)
    at_most = pareto_k_threshold(posterior.num_particles, thresholds.pareto_k)
    if k_hat > at_most:
        case.find(
            "heavy-tail", "warning", k_hat, at_most,
            f"The largest weights have a tail of Pareto shape {k_hat:.2f} (at most {at_most:.2f} for "
            f"{posterior.num_particles} particles): averages rest on few particles, and error bars are too small.",
            "Resample more often (ess_threshold nearer 1), weigh by more and gentler factors, or propose nearer to "
            "what the factors want; more particles help little.",
        )  # fmt: skip


def _evidence(case: Examination) -> None:
    posterior, at_most = case.posterior, case.thresholds.log_evidence_sd
    pooled = posterior.pooled_log_evidence()
    case.figures["log-evidence"] = pooled.estimate
    case.figures["log-evidence, standard error"] = pooled.standard_error
    spread = posterior.log_evidence[case.alive].std().item() if case.alive.sum() > 1 else math.nan
    case.figures["log-evidence, sd over runs"] = spread
    # Runs that were exchanged have like evidence, whatever they had before.
    compared = case.alive.sum() >= 4 and not posterior.stats.num_exchanges
    advice = "Take more particles in each run (rather than more runs), or tempering=AdaptiveTempering()."
    if compared and spread > at_most:
        case.find(
            "evidence-spread", "warning", spread, at_most,
            f"The log-evidence of the runs has a standard deviation of {spread:.1f}: pooled by evidence, few of them "
            "decide.", advice,
        )  # fmt: skip
    elif (note := no_error_bars(posterior)) is not None:
        case.find(
            "evidence-spread", "warning", spread, at_most,
            f"There are no error bars: {note.split(':')[0]}.", advice,
        )  # fmt: skip


def _agreement(case: Examination) -> None:
    found = known(convergence(case.posterior, case.functionals))
    if not found:
        return
    for name, value in found.items():
        case.figures[f"R-hat of {name} over runs"] = value.r_hat
        case.figures[f"ESS of {name} over runs"] = value.ess
    worst = max(found, key=lambda name: found[name].r_hat)
    r_hat, at_most = found[worst].r_hat, r_hat_threshold_of_runs(int(case.alive.sum()), case.thresholds.ess)
    if r_hat > at_most and not case.posterior.stats.num_exchanges:
        case.find(
            "runs-disagree", "warning", r_hat, at_most,
            f"The runs disagree about {worst}: R-hat is {r_hat:.2f}, more than if each were worth "
            f"{case.thresholds.ess:.0f} independent draws.",
            "Each run has found its own part of the posterior. Take more particles in each, or ParallelTempering, "
            "which moves between parts.",
        )  # fmt: skip
