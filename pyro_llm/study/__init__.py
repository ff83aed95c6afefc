"""Comparing algorithms at equal budget: problems × algorithms × budgets × seeds, resumed, with intervals.

A study is a `StudyConfig` (see `parse_config`, `read_yaml`); `run_study` runs what its folder lacks, `tabulate` makes
tables of the rows, and `make_report` tells what they say.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_llm.study.config import StudyConfig, parse_config
    from pyro_llm.study.plots import plot_accuracy
    from pyro_llm.study.problem import Problem
    from pyro_llm.study.problems import load_problems
    from pyro_llm.study.report import Report, make_report
    from pyro_llm.study.results import Results, tabulate
    from pyro_llm.study.rows import Row
    from pyro_llm.study.runner import Study, read_study, run_study
    from pyro_llm.study.scaling import scaling_rate
    from pyro_llm.study.summary import summarise
    from pyro_llm.study.yaml_file import read_yaml

_HOME = {
    "Problem": "problem",
    "Report": "report",
    "Results": "results",
    "Row": "rows",
    "Study": "runner",
    "StudyConfig": "config",
    "load_problems": "problems",
    "make_report": "report",
    "parse_config": "config",
    "plot_accuracy": "plots",
    "read_study": "runner",
    "read_yaml": "yaml_file",
    "run_study": "runner",
    "scaling_rate": "scaling",
    "summarise": "summary",
    "tabulate": "results",
}

__all__ = [
    "Problem",
    "Report",
    "Results",
    "Row",
    "Study",
    "StudyConfig",
    "load_problems",
    "make_report",
    "parse_config",
    "plot_accuracy",
    "read_study",
    "read_yaml",
    "run_study",
    "scaling_rate",
    "summarise",
    "tabulate",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `pyro_llm.study.grading` is light, the runner is not."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
