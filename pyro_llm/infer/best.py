"""The best particle of a posterior."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch

from pyro_llm.infer.particle_values import particle_value
from pyro_llm.infer.readings import Particle

if TYPE_CHECKING:
    from pyro_llm.infer.posterior import Posterior

Score = Literal["log_likelihood", "log_weight", "lp"]


def best_particle(posterior: Posterior, by: Score, where: Callable[[Any], bool] | None) -> Particle:
    """The particle of positive weight with the highest score; see `Posterior.best`."""
    pooled = posterior.pooled_log_weights
    scores = {"log_likelihood": posterior.log_likelihood, "log_weight": pooled, "lp": posterior.lp}
    if by not in scores:
        raise ValueError(f"best(by={by!r}): choose one of {', '.join(map(repr, scores))}.")
    eligible = torch.isfinite(pooled).flatten()
    if where is not None:
        for index in eligible.nonzero().squeeze(-1).tolist():
            eligible[index] = bool(where(_value(posterior, *divmod(index, posterior.num_particles))))
        if not eligible.any():
            raise ValueError("best(where=...): no particle of positive weight fulfils the condition.")
    index = int(torch.where(eligible, scores[by].flatten(), -torch.inf).argmax())
    run, particle = divmod(index, posterior.num_particles)
    value = _value(posterior, run, particle)
    text = value if posterior.has_texts else None
    numbers = {name: float(score[run, particle]) for name, score in scores.items()}
    return Particle(run, particle, value, text, **numbers)


def _value(posterior: Posterior, run: int, particle: int) -> Any:
    if posterior.has_texts:
        return posterior.written.of_particle(run, particle)
    return particle_value(posterior.returns, run, particle, (posterior.num_runs, posterior.num_particles))
