"""Descent and death of particles."""

from __future__ import annotations

import numpy as np
import torch

from pyro_llm.diagnostics.examine.examination import Examination
from pyro_llm.ops.degeneracy import dead_share, resamplings_since_coalescence
from pyro_llm.ops.genealogy import coalescence_step


def examine_genealogy(case: Examination) -> None:
    """Findings `dead-runs`, `dead-particles` and `one-lineage`."""
    if not case.is_weighted:
        return
    if dead := int((~case.alive).sum()):
        case.find(
            "dead-runs", "warning", dead, 0,
            f"In {dead} of {case.posterior.num_runs} runs all particles have weight zero; their evidence is 0, and the "
            "posterior is that of the others.",
            "Take more particles, or give no reward of exactly 0 (`reward.with_error(...)` keeps it above).",
        )  # fmt: skip
    if case.posterior.stats.num_steps and case.alive.any():
        _deaths(case)
        _descent(case)


def _deaths(case: Examination) -> None:
    stats, at_most = case.posterior.stats, case.thresholds.dead
    shares = dead_share(torch.from_numpy(stats.log_factor), torch.from_numpy(stats.ancestors)).numpy()[case.alive]
    by_step = shares.mean(0)
    step = int(by_step.argmax())
    case.figures["dead particles, share after the worst step"] = float(by_step[step])
    if by_step[step] >= at_most:
        case.find(
            "dead-particles", "warning", by_step[step], at_most,
            f"Step {step} ({stats.names[step]}) leaves {1 - by_step[step]:.0%} of the particles alive: the others have "
            "weight zero.",
            "Take more particles, or a reward that says how wrong a text is instead of rejecting it; a token-level "
            "constraint keeps texts from being written that cannot pass.",
        )  # fmt: skip


def _descent(case: Examination) -> None:
    posterior, stats = case.posterior, case.posterior.stats
    ancestors, resampled = torch.from_numpy(stats.ancestors), torch.from_numpy(stats.resampled)
    evidence = case.shares.sum(1)
    case.figures["ancestors at the first step, lowest"] = float(stats.unique_ancestors[case.alive, 0].min())
    coalesced = coalescence_step(ancestors).numpy()
    case.figures["step of coalescence, latest"] = float(coalesced[case.alive].max())
    if posterior.num_particles < case.thresholds.particles:
        return  # too few to have been more than one lineage for long
    since = resamplings_since_coalescence(ancestors, resampled).numpy()
    at_most = max(1, int(case.thresholds.coalescence * posterior.num_particles))
    ill = (since >= 0) & (since <= at_most) & case.alive
    if evidence[ill].sum() < 0.5:
        return
    run = int(np.flatnonzero(ill)[evidence[ill].argmax()])
    step, last = int(coalesced[run]), stats.num_steps - 1
    after = f"{last - step} step{'s' if last - step != 1 else ''}"
    resamplings = f"{since[run]} resampling{'s' if since[run] != 1 else ''}"
    runs = f"in {int(ill.sum())} of {posterior.num_runs} runs " if posterior.num_runs > 1 else ""
    case.find(
        "one-lineage", "serious", since[run], at_most,
        f"All final particles {runs}descend from one particle of step {step} ({stats.names[step]}), only "
        f"{after} and {resamplings} before the end: what came before is one draw, whatever the ESS says (it was "
        f"{stats.ess[run, step]:.1f} of {posterior.num_particles} there).",
        "Take more particles, soften the factor that singles one out (a gentler reward, an inverse temperature below "
        "1, tempering=AdaptiveTempering()), resample less often (a lower ess_threshold), or use ParticleGibbs.",
    )  # fmt: skip
