"""The bridge to ArviZ, before and after its version 1."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import xarray as xr

from pyro_llm.diagnostics.datatree import to_datatree
from pyro_llm.infer.posterior import Posterior

if TYPE_CHECKING:
    from arviz import InferenceData


def to_arviz(
    posterior: Posterior, functionals: Mapping[str, Callable[[str], Any]] | None = None
) -> InferenceData | xr.DataTree:
    """What the installed ArviZ works with: a `DataTree` from version 1 on, `InferenceData` before.

    Groups and variables are those of `to_datatree`. ArviZ takes draws as equally weighted, so summarise
    `posterior.resample(n).to_arviz()`; and its ESS and R-hat compare chains, so read them over four runs or more only.
    """
    return for_version(to_datatree(posterior, functionals), import_arviz())


def for_version(tree: xr.DataTree, arviz: ModuleType) -> InferenceData | xr.DataTree:
    """The tree as the given ArviZ takes it."""
    if int(arviz.__version__.split(".")[0]) >= 1:
        return tree
    return arviz.InferenceData.from_datatree(tree)


def import_arviz() -> ModuleType:
    """ArviZ, imported without the announcement of its refactoring that 0.23 gives as a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\s*ArviZ is undergoing a major refactor", FutureWarning)
        import arviz
    return arviz
