"""The best particle of a posterior."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch

from pyro_llm.errors import NoScoresError
from pyro_llm.infer.particle_values import particle_value
from pyro_llm.infer.readings import Particle

if TYPE_CHECKING:
    from pyro_llm.infer.posterior import Posterior

Score = Literal["log_likelihood", "log_weight", "lp", "score"]

_NUMBERS = ("log_weight", "log_likelihood", "lp")
_LOWEST = -torch.finfo(torch.float64).max
"""In place of minus infinity, below which only what is not eligible lies."""


def best_particle(posterior: Posterior, by: Score | None, where: Callable[[Any], bool] | None) -> Particle:
    """The particle of positive weight with the highest score; see `Posterior.best`."""
    scores = {"log_likelihood": posterior.log_likelihood}
    if posterior.searched is None:
        scores["log_weight"] = posterior.pooled_log_weights
        eligible = torch.isfinite(scores["log_weight"]).flatten()
    else:
        if posterior.searched.scores is not None or by == "score":
            scores["score"] = posterior.scores
        eligible = torch.ones(posterior.num_runs * posterior.num_particles, dtype=torch.bool)
    scores["lp"] = posterior.lp
    if by is None:
        by = "log_likelihood" if posterior.searched is None else "score" if "score" in scores else "lp"
    if by not in scores:
        raise ValueError(f"best(by={by!r}): choose one of {', '.join(map(repr, scores))}.")
    if bool(scores[by].isnan().all()):
        raise NoScoresError(f"best(by={by!r}): {_why_unknown(posterior, by)}")
    if where is not None:
        for index in eligible.nonzero().squeeze(-1).tolist():
            eligible[index] = bool(where(_value(posterior, *divmod(index, posterior.num_particles))))
        if not eligible.any():
            raise ValueError("best(where=...): no particle of positive weight fulfils the condition.")
    known = scores[by].flatten().clamp(min=_LOWEST).nan_to_num(nan=_LOWEST)
    index = int(torch.where(eligible, known, -torch.inf).argmax())
    run, particle = divmod(index, posterior.num_particles)
    value = _value(posterior, run, particle)
    text = value if posterior.has_texts else None
    numbers = {name: float(scores[name][run, particle]) if name in scores else math.nan for name in _NUMBERS}
    return Particle(run, particle, value, text, **numbers)


def _why_unknown(posterior: Posterior, by: Score) -> str:
    if by == "lp" and not bool(posterior.log_likelihood.isnan().all()):
        return "a latent site has no density (its distribution has no log_prob), so the sum of all is not known."
    return "the search did not ask for it. It has `decision(fn)`."


def _value(posterior: Posterior, run: int, particle: int) -> Any:
    if posterior.has_texts:
        return posterior.written.of_particle(run, particle)
    return particle_value(posterior.returns, run, particle, (posterior.num_runs, posterior.num_particles))
