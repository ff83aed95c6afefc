"""Whether what a file holds is a posterior: shapes that agree, and indices of what there is."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from pyro_llm.infer.posterior import Posterior


def check_sound(posterior: Posterior) -> None:
    """Raise ValueError for a posterior that cannot have come from a run; its readings would fail, or be nonsense."""
    runs, particles = posterior.num_runs, posterior.num_particles
    stats = posterior.stats
    if (stats.ancestors.shape[0], stats.ancestors.shape[-1]) != (runs, particles):
        raise ValueError(f"ancestors have shape {stats.ancestors.shape}, and there are {runs} runs of {particles}")
    _check_index("ancestor", stats.ancestors, particles)
    if stats.islands is not None:
        _check_index("island", stats.islands, runs)
    shapes = {"log_likelihood": tuple(posterior.log_likelihood.shape)}
    if not posterior.is_search:
        shapes |= {"log_weight": tuple(posterior.log_weights.shape)}
        if tuple(posterior.log_evidence.shape) != (runs,):
            raise ValueError(f"log_marginal_likelihood has shape {tuple(posterior.log_evidence.shape)}, not ({runs},)")
    if posterior.chains is not None:
        shapes |= {"lowest_ess": posterior.chains.lowest_ess.shape, "resamplings": posterior.chains.resamplings.shape}
    for name, shape in shapes.items():
        if shape != (runs, particles):
            raise ValueError(f"{name} has shape {shape}, and there are {runs} runs of {particles} particles")
    if posterior.has_texts:
        _check_texts(posterior)
    if not isinstance(posterior.settings, dict):
        raise ValueError("its settings are no dictionary")
    for name, value in asdict(posterior.cost).items():
        if not isinstance(value, int | float):
            raise ValueError(f"its cost has {name}={value!r}, which is no number")


def _check_index(name: str, values: np.ndarray, count: int) -> None:
    if not np.issubdtype(values.dtype, np.integer) or (values.size and not 0 <= values.min() <= values.max() < count):
        raise ValueError(f"{name} has values that are no numbers from 0 to {count - 1}")


def _check_texts(posterior: Posterior) -> None:
    written = posterior.written
    if written.texts.shape[:2] != (posterior.num_runs, posterior.num_particles):
        raise ValueError(f"text has shape {written.texts.shape}")
    for name, values in (("length", written.lengths), ("finished", written.finished)):
        if values is not None and values.shape != written.texts.shape:
            raise ValueError(f"{name} has shape {values.shape}, text has {written.texts.shape}")
    if not isinstance(written.prompt, str | None):
        raise ValueError(f"its prompt is {written.prompt!r}")
    if posterior.stats.texts is not None and posterior.stats.texts.values.shape != posterior.stats.ancestors.shape:
        raise ValueError(f"step_text has shape {posterior.stats.texts.values.shape}")
