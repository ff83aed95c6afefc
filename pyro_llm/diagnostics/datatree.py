"""A posterior as an `xarray.DataTree` in ArviZ's schema."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from pyro_llm.answers import answer
from pyro_llm.diagnostics.functionals import are_numbers, check_functionals, of_distinct
from pyro_llm.infer.posterior import Posterior
from pyro_llm.ops.genealogy import roots

SCHEMA_VERSION = 2
"""Of the tree that `to_datatree` builds and `load` reads back."""

PARTICLE = ("chain", "draw")
MISSING = "missing_"


def to_datatree(posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]] | None = None) -> xr.DataTree:
    """The posterior as a tree of datasets; `chain` is the run, `draw` the particle.

    | group | dimensions | variables |
    | --- | --- | --- |
    | `posterior` | chain, draw | of texts, `length` (in tokens), `log_reward` (the log-likelihood) and |
    | | | `log_probability` (the log-prior), functionals that are numbers; latent sites but those of `tokens` |
    | `tokens` | chain, draw | of texts, whether they are `finished`; latent sites that are rows of token ids |
    | `sample_stats` | chain, draw | `log_weight`, `ancestor`, `log_prior`, `log_likelihood`, `lp` |
    | | chain, draw | `missing_` and a site's name: whether a particle did not meet it, if some did not |
    | | chain | `log_marginal_likelihood`, `ess` |
    | `smc` | chain, step | `ess`, `log_evidence_increment`, `resampled`, `unique_ancestors` |
    | | chain, step | `inverse_temperature`, if the factors were tempered |
    | | chain, step, draw | `ancestor`, `log_factor`, `log_weight`; `step_text`, if the particles are texts |
    | | chain, step; step | `island`, `exchanged`: only of runs that could be exchanged |
    | `observed_data` | | observed sites |
    | `tempering` | rung | `inverse_temperature`; `swap_rate` with the next rung, NaN for the last |
    | | chain | `round_trips` |
    | | chain, rung, draw | `log_likelihood`, not tempered, at each rung |

    Of a search, `sample_stats` has the logarithm of each particle's `score`, if there are scores, and neither it nor
    `smc` has what is made of weights; the attribute `decides_by` says how it decides. Of Markov chains, `draw` is the
    iteration, `sample_stats` has the `lowest_ess` and the number of `resamplings` of the sweep that made it, `smc` has
    no steps, and `log_marginal_likelihood` is that of the first iteration. Parallel tempering alone has `tempering`.

    `tokens` holds the latent sites of a program that writes texts which are rows of integers, -1 after their end, for
    a mean or an R-hat of token ids means nothing. The `text` and functionals that are strings (no answer being `""`)
    are coordinates of `posterior`, so that `az.summary` passes them by. `log_weight` is normalised within a chain,
    `ancestor` in `sample_stats` the slot at the first step from which a particle descends, `site` in `smc` the name of
    a step. A model's return value that is a tensor is `posterior["returned"]`; of any other the tree has but the type,
    in the attribute `not_saved`.

    Draws carry weights, which ArviZ does not know of: `posterior.resample(n)` before what takes them as equal.
    Variables of sites bear the site's name, changed where netCDF or the schema forbids it, and have the exact name
    as their attribute `site`. The root's attributes hold settings (versions among them), cost, the prompt and the
    names of the latent sites in their order as JSON.

    Args:
        posterior: what to convert.
        functionals: functions of a text by name; by default its final answer, `{"answer": pyro_llm.answer}`.

    Raises:
        OptionError: there are functionals, and the program returns no text.
    """
    check_functionals(posterior, functionals, of_one_text=False)
    tokens = token_sites(posterior)
    groups = {
        "posterior": _posterior(posterior, {"answer": answer} if functionals is None else functionals, tokens),
        "tokens": _tokens(posterior, tokens),
        "sample_stats": _sample_stats(posterior),
        "smc": _smc(posterior),
        "observed_data": _sites(posterior.observed, (), ()),
        "tempering": _tempering(posterior),
    }
    tree = xr.DataTree.from_dict(
        {name: dataset for name, dataset in groups.items() if dataset.sizes or dataset.variables}
    )
    tree.attrs = _attributes(posterior)
    return tree


def token_sites(posterior: Posterior) -> set[str]:
    """The latent sites whose values are rows of token ids, as far as that can be seen.

    Those of a posterior with texts that are integers, with dimensions of their own, and have -1 only at the end.
    """
    if not posterior.has_texts:
        return set()
    return {name for name, value in posterior.samples.items() if _is_tokens(value)}


def _is_tokens(value: Tensor) -> bool:
    if value.dtype != torch.long or value.dim() < 3:
        return False
    padding = value == -1
    return bool((value >= -1).all() and (padding[..., 1:] >= padding[..., :-1]).all())


def _tokens(posterior: Posterior, tokens: set[str]) -> xr.Dataset:
    dataset = _sites(
        {name: posterior.samples[name] for name in posterior.samples if name in tokens}, PARTICLE, ["finished"]
    )
    finished = posterior.written.finished if posterior.has_texts else None
    if finished is not None:
        dataset["finished"] = (_dims("finished", finished), _numbers(finished))
    return dataset.assign_coords(_particles(posterior)) if dataset.variables else dataset


def _posterior(posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]], tokens: set[str]) -> xr.Dataset:
    columns: dict[str, np.ndarray] = {}
    if posterior.has_texts:
        columns = {"text": posterior.texts, "length": posterior.written.lengths}
        for name, values in (("log_reward", posterior.log_likelihood), ("log_probability", posterior.log_prior)):
            if not values.isnan().any():
                columns[name] = values.numpy()
        for name, fn in functionals.items():
            if name in {*PARTICLE, "text", "length", "log_reward", "log_probability"}:
                raise ValueError(f"A functional cannot be called {name!r}, which has a meaning of its own here.")
            columns[name] = _functional(fn, posterior.texts)
    sites = {name: value for name, value in posterior.samples.items() if name not in tokens}
    if isinstance(posterior.returns, Tensor):
        columns["returned"] = array(posterior.returns)
    # Those that sum up a particle come before its sites.
    dataset = xr.Dataset({name: (_dims(name, values), values) for name, values in columns.items()})
    dataset = dataset.merge(_sites(sites, PARTICLE, columns))
    labels = [name for name, values in columns.items() if values.dtype == object]
    return dataset.assign_coords(_particles(posterior)).set_coords(labels)


def _dims(name: str, values: np.ndarray) -> tuple[str, ...]:
    return (*PARTICLE, *(f"{name}_dim_{axis}" for axis in range(values.ndim - 2)))


def _functional(fn: Callable[[str], Any], texts: np.ndarray) -> np.ndarray:
    """`fn` of each text: numbers if all are, else strings, None being the empty one."""
    distinct = of_distinct(fn, texts)
    if are_numbers(distinct.values()):
        return _numbers(np.array([distinct[text] for text in texts.flat]).reshape(texts.shape))
    return strings(["" if distinct[text] is None else str(distinct[text]) for text in texts.flat], texts.shape)


def strings(values: Iterable[str], shape: tuple[int, ...]) -> np.ndarray:
    """Strings as an object array, which cuts none off (fixed-width ones lose trailing NULs)."""
    result = np.empty(shape, dtype=object)
    for index, value in zip(np.ndindex(shape), values, strict=True):
        result[index] = value
    return result


def _sample_stats(posterior: Posterior) -> xr.Dataset:
    by_particle = {
        **_by_particle_of_kind(posterior),
        "ancestor": roots(torch.from_numpy(posterior.stats.ancestors)).numpy(),
        "log_prior": posterior.log_prior.numpy(),
        "log_likelihood": posterior.log_likelihood.numpy(),
        "lp": posterior.lp.numpy(),
    }
    if posterior.chains is not None:
        by_particle |= {"lowest_ess": posterior.chains.lowest_ess, "resamplings": posterior.chains.resamplings}
    by_chain = {}
    if not posterior.is_search:
        by_chain = {"log_marginal_likelihood": posterior.log_evidence.numpy(), "ess": posterior.ess().numpy()}
    variables: dict[str, Any] = {name: (PARTICLE, values) for name, values in by_particle.items()}
    if posterior.chains is not None and posterior.chains.iterations is not None:
        variables["iteration"] = (("draw",), posterior.chains.iterations)
    dataset = xr.Dataset(
        variables | {name: ("chain", values) for name, values in by_chain.items()}, coords=_particles(posterior)
    )
    missing = {f"{MISSING}{site}": lacks for site, lacks in posterior.missing.items()}
    return dataset.merge(_sites(missing, PARTICLE, ()))


def _by_particle_of_kind(posterior: Posterior) -> dict[str, np.ndarray]:
    """Weights, or the scores of a search that has any."""
    if posterior.searched is None:
        return {"log_weight": posterior.log_weights.numpy()}
    return {} if posterior.searched.scores is None else {"score": posterior.scores.numpy()}


def _smc(posterior: Posterior) -> xr.Dataset:
    stats = posterior.stats
    of_weights = () if posterior.is_search else ("ess", "log_evidence_increment")
    by_step = {name: getattr(stats, name) for name in (*of_weights, "resampled", "unique_ancestors")}
    if stats.inverse_temperature is not None:
        by_step["inverse_temperature"] = stats.inverse_temperature
    by_slot: dict[str, Any] = {"ancestor": stats.ancestors, "log_factor": stats.log_factor}
    if stats.log_weights is not None:
        by_slot["log_weight"] = stats.log_weights
    if stats.texts is not None:
        by_slot["step_text"] = stats.texts.values
    variables: dict[str, Any] = {name: (("chain", "step"), values) for name, values in by_step.items()}
    if stats.islands is not None:
        variables["island"] = (("chain", "step"), stats.islands)
        variables["exchanged"] = (("step",), stats.exchanged)
    return xr.Dataset(
        variables | {name: (("chain", "step", "draw"), values) for name, values in by_slot.items()},
        coords={
            **_particles(posterior),
            "step": np.arange(stats.num_steps),
            "site": ("step", np.array(stats.names, dtype=object)),
        },
    )


def _tempering(posterior: Posterior) -> xr.Dataset:
    tempering = None if posterior.chains is None else posterior.chains.tempering
    if tempering is None:
        return xr.Dataset()
    return xr.Dataset(
        {
            "inverse_temperature": ("rung", tempering.inverse_temperatures),
            "swap_rate": ("rung", np.append(tempering.swap_rates, np.nan)),
            "round_trips": ("chain", tempering.round_trips),
            "log_likelihood": (("chain", "rung", "draw"), tempering.log_likelihood),
        },
        coords={**_particles(posterior), "rung": np.arange(len(tempering.inverse_temperatures))},
    )


def _particles(posterior: Posterior) -> dict[str, np.ndarray]:
    return {"chain": np.arange(posterior.num_runs), "draw": np.arange(posterior.num_particles)}


def _sites(sites: Mapping[str, Tensor], batch: tuple[str, ...], reserved: Iterable[str]) -> xr.Dataset:
    names = variable_names(sites, {*batch, *reserved})
    dataset = xr.Dataset()
    for site, tensor in sites.items():
        values = array(tensor)
        dims = (*batch, *(f"{names[site]}_dim_{axis}" for axis in range(values.ndim - len(batch))))
        dataset[names[site]] = xr.Variable(
            dims, values, {"site": site, "dtype": str(tensor.dtype).removeprefix("torch.")}
        )
    return dataset


def variable_names(sites: Iterable[str], reserved: Iterable[str]) -> dict[str, str]:
    """A distinct variable name for each site: its own where netCDF allows it and nothing else bears it."""
    taken = set(reserved)
    names: dict[str, str] = {}
    for site in sites:
        name = re.sub(r"[^\w.\-]", "_", site)
        name = name if re.match(r"\w", name) else f"_{name}"
        # A dimension must not bear the name of a variable.
        while name in taken or re.fullmatch(r".*_dim_\d+", name):
            name += "_"
        taken.add(name)
        names[site] = name
    return names


def array(tensor: Tensor) -> np.ndarray:
    """A tensor as a NumPy array; bfloat16, which NumPy lacks, as float32; truth values as 0 and 1."""
    tensor = tensor.detach().cpu()
    return _numbers((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())


def _numbers(values: np.ndarray) -> np.ndarray:
    # ArviZ 1 subtracts and divides whatever it summarises, which NumPy refuses for truth values.
    return values.astype(np.int8) if values.dtype == bool else values


def _attributes(posterior: Posterior) -> dict[str, Any]:
    attributes = {
        "schema_version": SCHEMA_VERSION,
        "inference_library": "pyro_llm",
        "inference_library_version": posterior.settings.get("versions", {}).get("pyro_llm", "unknown"),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "algorithm": str(posterior.settings.get("algorithm", "unknown")),
        "settings": json.dumps(posterior.settings, default=_plain),
        "cost": json.dumps(asdict(posterior.cost)),
        "sites": json.dumps(list(posterior.samples)),
    }
    if posterior.searched is not None:
        attributes["decides_by"] = posterior.searched.decides_by
    if posterior.has_texts:
        attributes["prompt"] = json.dumps(posterior.written.prompt)
    elif posterior.not_saved is not None:
        attributes["not_saved"] = posterior.not_saved
    elif posterior.returns is not None and not isinstance(posterior.returns, Tensor):
        attributes["not_saved"] = type(posterior.returns).__name__
    return attributes


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)
