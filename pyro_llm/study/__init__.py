"""Comparing algorithms at equal budget: problems × algorithms × budgets × seeds, resumed, with intervals.

A study is a `StudyConfig` (see `parse_config`, `read_yaml`); `run_study` runs what its folder lacks, `read_study` reads
it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyro_llm.study.config import StudyConfig, parse_config
    from pyro_llm.study.problem import Problem
    from pyro_llm.study.problems import load_problems
    from pyro_llm.study.rows import Row
    from pyro_llm.study.runner import Study, read_study, run_study
    from pyro_llm.study.yaml_file import read_yaml

_HOME = {
    "Problem": "problem",
    "Row": "rows",
    "Study": "runner",
    "StudyConfig": "config",
    "load_problems": "problems",
    "parse_config": "config",
    "read_study": "runner",
    "read_yaml": "yaml_file",
    "run_study": "runner",
}

__all__ = [
    "Problem",
    "Row",
    "Study",
    "StudyConfig",
    "load_problems",
    "parse_config",
    "read_study",
    "read_yaml",
    "run_study",
]


def __getattr__(name: str) -> Any:
    """Import on first use: `pyro_llm.study.grading` is light, the runner is not."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
