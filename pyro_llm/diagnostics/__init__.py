"""Posteriors as `xarray.DataTree`, in ArviZ, in figures and in files; how well rewards are calibrated."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_llm.diagnostics.agreement import convergence
    from pyro_llm.diagnostics.ancestry import plot_ancestry
    from pyro_llm.diagnostics.arviz import to_arviz
    from pyro_llm.diagnostics.before_after import calibration_change
    from pyro_llm.diagnostics.calibration import auc, brier_score, expected_calibration_error, reliability_bins
    from pyro_llm.diagnostics.checkup import diagnose
    from pyro_llm.diagnostics.course_plots import plot_cost, plot_evidence
    from pyro_llm.diagnostics.datatree import to_datatree
    from pyro_llm.diagnostics.model_comparison import compare, loo
    from pyro_llm.diagnostics.pareto import pareto_k
    from pyro_llm.diagnostics.plots import plot, plot_answers, plot_ess
    from pyro_llm.diagnostics.reliability import plot_reliability
    from pyro_llm.diagnostics.search_plots import plot_factors, plot_tally
    from pyro_llm.diagnostics.storage import from_datatree, load, save
    from pyro_llm.diagnostics.variance import evidence_variance
    from pyro_llm.infer.diagnosis import Diagnosis, Finding
    from pyro_llm.infer.thresholds import Thresholds

__all__ = [
    "Diagnosis",
    "Finding",
    "Thresholds",
    "auc",
    "brier_score",
    "calibration_change",
    "compare",
    "convergence",
    "diagnose",
    "evidence_variance",
    "expected_calibration_error",
    "from_datatree",
    "load",
    "loo",
    "pareto_k",
    "plot",
    "plot_ancestry",
    "plot_answers",
    "plot_cost",
    "plot_ess",
    "plot_evidence",
    "plot_factors",
    "plot_reliability",
    "plot_tally",
    "reliability_bins",
    "save",
    "to_arviz",
    "to_datatree",
]

_MODULES = {
    "Diagnosis": "checkup",
    "Finding": "examine.examination",
    "Thresholds": "checkup",
    "auc": "calibration",
    "brier_score": "calibration",
    "calibration_change": "before_after",
    "compare": "model_comparison",
    "convergence": "agreement",
    "diagnose": "checkup",
    "evidence_variance": "variance",
    "expected_calibration_error": "calibration",
    "from_datatree": "storage",
    "load": "storage",
    "loo": "model_comparison",
    "pareto_k": "pareto",
    "plot": "plots",
    "plot_ancestry": "ancestry",
    "plot_answers": "plots",
    "plot_cost": "course_plots",
    "plot_ess": "plots",
    "plot_evidence": "course_plots",
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
