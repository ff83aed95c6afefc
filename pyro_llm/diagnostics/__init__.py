"""Posteriors as `xarray.DataTree`, in ArviZ, in figures and in files; how well rewards are calibrated."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_llm.diagnostics.ancestry import plot_ancestry
    from pyro_llm.diagnostics.arviz import to_arviz
    from pyro_llm.diagnostics.before_after import calibration_change
    from pyro_llm.diagnostics.calibration import auc, brier_score, expected_calibration_error, reliability_bins
    from pyro_llm.diagnostics.datatree import to_datatree
    from pyro_llm.diagnostics.plots import plot, plot_answers, plot_ess
    from pyro_llm.diagnostics.reliability import plot_reliability
    from pyro_llm.diagnostics.search_plots import plot_factors, plot_tally
    from pyro_llm.diagnostics.storage import load, save
    from pyro_llm.diagnostics.variance import evidence_variance

__all__ = [
    "auc",
    "brier_score",
    "calibration_change",
    "evidence_variance",
    "expected_calibration_error",
    "load",
    "plot",
    "plot_ancestry",
    "plot_answers",
    "plot_ess",
    "plot_factors",
    "plot_reliability",
    "plot_tally",
    "reliability_bins",
    "save",
    "to_arviz",
    "to_datatree",
]

_MODULES = {
    "auc": "calibration",
    "brier_score": "calibration",
    "calibration_change": "before_after",
    "evidence_variance": "variance",
    "expected_calibration_error": "calibration",
    "load": "storage",
    "plot": "plots",
    "plot_ancestry": "ancestry",
    "plot_answers": "plots",
    "plot_ess": "plots",
    "plot_factors": "search_plots",
    "plot_reliability": "reliability",
    "plot_tally": "search_plots",
    "reliability_bins": "calibration",
    "save": "storage",
    "to_arviz": "arviz",
    "to_datatree": "datatree",
}


def __getattr__(name: str) -> Any:
    # Matplotlib, xarray and ArviZ take seconds to import: each when it is first asked for.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
