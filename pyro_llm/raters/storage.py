"""What is known of raters, in netCDF files that ArviZ opens too."""

from __future__ import annotations

import json
from os import PathLike
from typing import Any

import torch
import xarray as xr

from pyro_llm.diagnostics.storage import read_tree
from pyro_llm.errors import PosteriorFileError, RatingsError
from pyro_llm.files import written_whole
from pyro_llm.raters.posterior import RaterPosterior

LIBRARY, KIND = "pyro_llm", "raters"


def to_datatree(posterior: RaterPosterior) -> xr.DataTree:
    """The draws in the group `posterior`, by chain, draw and rater."""
    shape = (posterior.chains, -1)
    sites: dict[str, Any] = {"prevalence": (("chain", "draw"), posterior.prevalence.reshape(shape).numpy())}
    for name in ("sensitivity", "specificity"):
        values = getattr(posterior, name).reshape(*shape, len(posterior.raters)).numpy()
        sites[name] = (("chain", "draw", "rater"), values)
    draws = sites["prevalence"][1].shape[1]
    coordinates = {"chain": range(posterior.chains), "draw": range(draws), "rater": list(posterior.raters)}
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset(sites, coordinates)})
    tree.attrs |= {"inference_library": LIBRARY, "kind": KIND, "fit": json.dumps(posterior.fit)}
    return tree


def save(posterior: RaterPosterior, path: str | PathLike[str]) -> None:
    """Write to a netCDF file, whole or not at all. Raises OutputPathError."""
    with written_whole(path) as temporary:
        to_datatree(posterior).to_netcdf(temporary, engine="h5netcdf")


def load(path: str | PathLike[str]) -> RaterPosterior:
    """Read what `save` wrote. Raises PosteriorFileError for anything else."""
    tree = read_tree(path)
    if tree.attrs.get("inference_library") != LIBRARY or tree.attrs.get("kind") != KIND:
        raise PosteriorFileError(f"{str(path)!r} holds no raters: `RaterPosterior.save` writes those.")
    try:
        draws = tree["posterior"].dataset
        flat = {str(name): torch.from_numpy(draws[name].values.copy()).flatten(0, 1) for name in draws.data_vars}
        fit = json.loads(tree.attrs["fit"])
        return RaterPosterior(
            tuple(map(str, draws["rater"].values)),
            prevalence=flat["prevalence"],
            sensitivity=flat["sensitivity"],
            specificity=flat["specificity"],
            chains=draws.sizes["chain"],
            fit=fit,
        )
    except (KeyError, TypeError, ValueError, RatingsError) as error:
        raise PosteriorFileError(f"{str(path)!r} is not complete: {type(error).__name__}: {error}") from error
