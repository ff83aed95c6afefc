"""Posteriors in netCDF files: the tree of `to_datatree`, which any reader of netCDF or ArviZ opens too."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from pyro_llm.diagnostics.datatree import MISSING, SCHEMA_VERSION, strings, to_datatree
from pyro_llm.diagnostics.soundness import check_sound
from pyro_llm.errors import OutputPathError, PosteriorFileError
from pyro_llm.files import check_writable, written_whole
from pyro_llm.infer.markov_chains import MarkovChains, Tempering
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.readings import Texts
from pyro_llm.infer.searched import Searched
from pyro_llm.infer.stats import StepStats
from pyro_llm.ops.step_texts import StepTexts
from pyro_llm.run_scope import Cost

SUFFIXES = (".nc", ".nc4", ".netcdf", ".h5", ".hdf5")
"""Of files in the format that is written, netCDF 4, which is HDF5."""

_ESCAPED = "escaped"
"""Marks a variable whose strings are written as JSON, for netCDF strings hold neither NUL nor lone surrogates."""


def save(posterior: Posterior, path: str | PathLike[str]) -> None:
    """Write a posterior to a netCDF file, whole or not at all.

    All is kept but the model's return value, of which the texts are kept, or the values if it is a tensor. Of anything
    else (a dictionary, say) the file holds the type only: make what is to be kept a site, by `pyro.deterministic`.

    Args:
        posterior: what to write.
        path: a name that ends in `.nc` (or `.nc4`, `.netcdf`, `.h5`, `.hdf5`), or has no ending.

    Raises:
        OutputPathError: the path cannot be written to, or its ending promises another format.
    """
    path = check_writable(path)
    suffix = path.suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise OutputPathError(
            f"Cannot write to {str(path)!r}: a posterior is written as netCDF, so give a name that ends in .nc, not "
            f"{suffix}."
        )
    with written_whole(path) as temporary:
        tree = to_datatree(posterior)
        for group in tree.subtree:
            group.dataset = _escape(group.to_dataset(inherit=False))
        tree.to_netcdf(temporary, engine="h5netcdf")


def load(path: str | PathLike[str]) -> Posterior:
    """Read a posterior that `save` wrote.

    Raises:
        PosteriorFileError: there is no such file, or it holds no posterior of this library.
    """
    return from_datatree(read_tree(path), repr(str(path)))


def from_datatree(tree: xr.DataTree, name: str = "The tree") -> Posterior:
    """The posterior that a tree of `to_datatree` is made of, but for a return value that is no text and no tensor.

    Args:
        tree: of any version so far.
        name: what to call it in an error.

    Raises:
        PosteriorFileError: it is none of `to_datatree`.
    """
    schema = tree.attrs.get("schema_version")
    if tree.attrs.get("inference_library") != "pyro_llm" or schema is None:
        raise PosteriorFileError(f"{name} holds no posterior of pyro_llm: `Posterior.save` writes those.")
    try:
        if int(schema) > SCHEMA_VERSION:
            raise PosteriorFileError(f"{name} was written by a later version of pyro_llm: upgrade to read it.")
        posterior = _posterior(tree)
        check_sound(posterior)
    except PosteriorFileError:
        raise
    except Exception as error:  # what is missing, or damaged, decides which
        raise PosteriorFileError(f"{name} is not complete, or damaged: {type(error).__name__}: {error}") from error
    return posterior


def read_tree(path: str | PathLike[str]) -> xr.DataTree:
    """The tree that a netCDF file holds, in memory.

    Raises:
        PosteriorFileError: there is no such file, or it is not netCDF.
    """
    if not isinstance(path, str | PathLike):
        raise PosteriorFileError(f"Give the name of a file that `Posterior.save` wrote, not {path!r}.")
    path = Path(path).expanduser()
    if not path.is_file():
        raise PosteriorFileError(f"There is no file {str(path)!r}.")
    try:
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            return tree.load()
    except Exception as error:  # a damaged file makes the readers of HDF5 and netCDF raise nearly anything
        raise PosteriorFileError(f"{str(path)!r} is not a netCDF file, or is cut off: {error}") from error


def _posterior(tree: xr.DataTree) -> Posterior:
    draws, sample_stats = tree["posterior"].dataset, tree["sample_stats"].dataset
    # Before schema 2 the sites of tokens were among the others.
    tokens = tree["tokens"].dataset if "tokens" in tree.children else xr.Dataset()

    def statistic(name: str) -> torch.Tensor:
        return torch.from_numpy(sample_stats[name].values)

    searched = None
    if "decides_by" in tree.attrs:
        searched = Searched(tree.attrs["decides_by"], statistic("score") if "score" in sample_stats else None)

    written = None
    if "text" in draws:
        finished = tokens["finished"].values.astype(bool) if "finished" in tokens else None
        written = Texts(json.loads(tree.attrs["prompt"]), _unescape(draws["text"]), draws["length"].values, finished)
    return Posterior(
        samples=_in_order({**_sites(draws), **_sites(tokens)}, json.loads(tree.attrs.get("sites", "[]"))),
        returns=_tensor(draws["returned"]) if "returned" in draws else None,
        log_weights=statistic("log_weight") if searched is None else None,
        log_evidence=statistic("log_marginal_likelihood") if searched is None else None,
        log_prior=statistic("log_prior"),
        log_likelihood=statistic("log_likelihood"),
        stats=_step_stats(tree["smc"].dataset),
        observed=_sites(tree["observed_data"].dataset) if "observed_data" in tree.children else {},
        cost=Cost.restored(json.loads(tree.attrs["cost"])),
        settings=json.loads(tree.attrs["settings"]),
        written=written,
        chains=_chains(tree),
        not_saved=tree.attrs.get("not_saved"),
        searched=searched,
        missing={name.removeprefix(MISSING): lacks for name, lacks in _sites(sample_stats).items()},
    )


def _sites(dataset: xr.Dataset) -> dict[str, torch.Tensor]:
    return {
        variable.attrs["site"]: _tensor(variable) for variable in dataset.data_vars.values() if "site" in variable.attrs
    }


def _in_order(sites: dict[str, torch.Tensor], names: list[str]) -> dict[str, torch.Tensor]:
    return {name: sites[name] for name in names} if names else sites


def _tensor(variable: xr.DataArray) -> torch.Tensor:
    tensor = torch.from_numpy(np.array(variable.values))
    return tensor.to(getattr(torch, variable.attrs.get("dtype", str(tensor.dtype).removeprefix("torch."))))


def _chains(tree: xr.DataTree) -> MarkovChains | None:
    sample_stats = tree["sample_stats"].dataset
    if "lowest_ess" not in sample_stats:
        return None
    tempering = None
    if "tempering" in tree.children:
        ladder = tree["tempering"].dataset
        tempering = Tempering(
            inverse_temperatures=ladder["inverse_temperature"].values,
            swap_rates=ladder["swap_rate"].values[:-1],
            round_trips=ladder["round_trips"].values,
            log_likelihood=ladder["log_likelihood"].values,
        )
    iterations = sample_stats["iteration"].values if "iteration" in sample_stats else None
    return MarkovChains(sample_stats["lowest_ess"].values, sample_stats["resamplings"].values, tempering, iterations)


def _step_stats(smc: xr.Dataset) -> StepStats:
    no_weights = np.full(smc["resampled"].shape, np.nan)  # of a search
    return StepStats(
        names=list(_unescape(smc["site"])),
        ess=smc["ess"].values if "ess" in smc else no_weights,
        log_evidence_increment=smc["log_evidence_increment"].values if "ess" in smc else no_weights,
        resampled=smc["resampled"].values.astype(bool),
        ancestors=smc["ancestor"].values,
        log_factor=smc["log_factor"].values,
        inverse_temperature=smc["inverse_temperature"].values if "inverse_temperature" in smc else None,
        islands=smc["island"].values if "island" in smc else None,
        exchanged=smc["exchanged"].values.astype(bool) if "exchanged" in smc else None,
        log_weights=smc["log_weight"].values if "log_weight" in smc else None,
        texts=StepTexts(kept=_unescape(smc["step_text"])) if "step_text" in smc else None,
    )


def _escape(dataset: xr.Dataset) -> xr.Dataset:
    for name, variable in dataset.variables.items():
        if variable.dtype == object and not all(_plain(text) for text in variable.values.flat):
            values = strings([json.dumps(text) for text in variable.values.flat], variable.shape)
            dataset[name] = dataset[name].copy(data=values).assign_attrs({_ESCAPED: 1})
    return dataset


def _plain(text: str) -> bool:
    return "\0" not in text and text.encode(errors="replace").decode() == text


def _unescape(variable: xr.DataArray) -> np.ndarray:
    decode = json.loads if variable.attrs.get(_ESCAPED) else str
    return strings([decode(text) for text in variable.values.flat], variable.shape)
