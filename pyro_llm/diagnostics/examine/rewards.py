"""Whether the factors tell particles apart."""

from __future__ import annotations

import math

import torch

from pyro_llm.diagnostics.examine.examination import Examination
from pyro_llm.infer.diagnosis import Severity
from pyro_llm.ops.degeneracy import indifferent_steps


def examine_rewards(case: Examination) -> None:
    """Findings `reward-saturated` and `reward-constant`; of Markov chains by the effective sample sizes they record."""
    if case.is_resampled:
        return
    if case.posterior.chains is not None:
        _sweeps(case)
    elif case.posterior.stats.num_steps and case.posterior.num_particles > 1:
        _steps(case)


def _steps(case: Examination) -> None:
    stats, thresholds = case.posterior.stats, case.thresholds
    log_factor, ancestors = torch.from_numpy(stats.log_factor), torch.from_numpy(stats.ancestors)
    found = indifferent_steps(log_factor, ancestors, thresholds.tolerance, thresholds.certainty)
    compared, equal, certain = (flags.numpy()[case.alive] for flags in found)
    share = float((equal | certain).sum() / compared.sum()) if compared.any() else math.nan
    case.figures["steps whose reward tells nothing, share"] = share
    if not share >= thresholds.indifferent_steps or _all_alike(case):
        return
    _find(case, certain.sum() >= equal.sum(), share, thresholds.indifferent_steps, f"At {share:.0%} of the steps")


def _all_alike(case: Examination) -> bool:
    """Whether there is but one text, so that no reward could tell particles apart."""
    return case.posterior.has_texts and len(set(case.posterior.texts[case.shares > 0].flat)) == 1


def _sweeps(case: Examination) -> None:
    chains, size = case.posterior.chains, case.posterior.settings.get("num_particles")
    # Sweeps on a schedule have populations of several sizes.
    if (
        chains is None
        or not isinstance(size, int)
        or size < 2
        or case.posterior.settings.get("schedule")
        or not chains.lowest_ess.size
    ):
        return
    # All weights within `tolerance` of each other leave an ESS within its square of N.
    bound = size / (1 + case.thresholds.tolerance**2)
    share = case.figures["draws whose rewards tell nothing, share"] = float((chains.lowest_ess >= bound).mean())
    if share >= case.thresholds.indifferent_steps:
        mean = float(case.posterior.log_likelihood.mean())
        saturated = abs(mean) <= case.thresholds.certainty
        _find(case, saturated, share, case.thresholds.indifferent_steps, f"In the sweeps of {share:.0%} of the draws")


def _find(case: Examination, saturated: bool, share: float, threshold: float, where: str) -> None:
    result = (
        "the choice is that of chance" if case.is_search else "the posterior is what the program draws without rewards"
    )
    severity: Severity = "serious" if share == 1 else "warning"
    if not bool(case.posterior.log_likelihood.any()):  # exactly 1 throughout, as hard constraints that are met
        severity = "note"
    if saturated:
        case.find(
            "reward-saturated", severity, share, threshold,
            f"{where} every particle is accepted for certain (to 1 percent), so the reward tells none from another: "
            f"{result}.",
            "Calibrate the reward (`fit_calibration`, `reward.calibrated(...)`), soften its log-odds (a temperature), "
            "or look whether it is given what it was trained on: prompt, step separator, format. If factors are "
            "hard constraints, all texts meet them, and nothing is wrong.",
        )  # fmt: skip
    else:
        case.find(
            "reward-constant", severity, share, threshold,
            f"{where} the reward is the same for all particles (to 0.1 percent), so it tells none from another: "
            f"{result}.",
            "Look at the reward by itself on a good and a bad text: it may not read the text at all, be given another "
            "format than it was trained on, or judge what all particles have in common.",
        )  # fmt: skip
