"""How a posterior is diagnosed, drawn, reported, converted and kept: each by a module of `pyro_llm.diagnostics`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from pyro_llm.infer.diagnosis import Diagnosis
from pyro_llm.infer.thresholds import Thresholds

if TYPE_CHECKING:
    from arviz import InferenceData
    from matplotlib.figure import Figure
    from xarray import DataTree

    from pyro_llm.infer.posterior import Posterior


class Presented:
    """What a posterior can be turned into. What that takes is imported when it is asked for."""

    def to_datatree(self, functionals: Mapping[str, Callable[[str], Any]] | None = None) -> DataTree:
        """An `xarray.DataTree` in ArviZ's schema; see `pyro_llm.diagnostics.to_datatree`."""
        from pyro_llm.diagnostics.datatree import to_datatree

        return to_datatree(cast("Posterior", self), functionals)

    def to_arviz(self, functionals: Mapping[str, Callable[[str], Any]] | None = None) -> InferenceData | DataTree:
        """What the installed ArviZ works with; see `pyro_llm.diagnostics.to_arviz`."""
        from pyro_llm.diagnostics.arviz import to_arviz

        return to_arviz(cast("Posterior", self), functionals)

    def diagnose(
        self, functionals: Mapping[str, Callable[[str], Any]] | None = None, thresholds: Thresholds | None = None
    ) -> Diagnosis:
        """What is wrong, in plain words, and what to change; see `pyro_llm.diagnostics.diagnose`."""
        from pyro_llm.diagnostics.checkup import diagnose

        return diagnose(cast("Posterior", self), functionals, thresholds)

    def plot(self, run: int = 0) -> Figure:
        """ESS by step, answers and the ancestry of one run in a figure; see `pyro_llm.diagnostics.plot`."""
        from pyro_llm.diagnostics.plots import plot

        return plot(cast("Posterior", self), run)

    def report(self, path: str | PathLike[str] | None = None) -> str:
        """A page of HTML with the answers and the genealogy of reasoning; see `pyro_llm.diagnostics.report`."""
        from pyro_llm.diagnostics.report import report

        return report(cast("Posterior", self), path)

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to a netCDF file, whole or not at all; see `pyro_llm.diagnostics.save`."""
        from pyro_llm.diagnostics.storage import save

        save(cast("Posterior", self), path)

    @staticmethod
    def load(path: str | PathLike[str]) -> Posterior:
        """Read what `save` wrote; see `pyro_llm.diagnostics.load`."""
        from pyro_llm.diagnostics.storage import load

        return load(path)

    def __repr__(self) -> str:
        from pyro_llm.diagnostics.display import to_text

        return to_text(cast("Posterior", self))

    def _repr_html_(self) -> str:
        from pyro_llm.diagnostics.display import to_html

        return to_html(cast("Posterior", self))
