"""The algorithms of a study: found by name, their options checked before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pyro_llm import infer
from pyro_llm.budget import Budget
from pyro_llm.errors import StudyConfigError
from pyro_llm.infer.algorithm import Algorithm
from pyro_llm.infer.search.search import Search
from pyro_llm.study.advice import unknown
from pyro_llm.study.config import AlgorithmSpec
from pyro_llm.study.split import SIZES

_GIVEN_BY_THE_STUDY = {"self", "model", "progress", "budget"}


def algorithm_names() -> list[str]:
    """The names of all algorithms of `pyro_llm.infer`."""
    return [name for name in infer.__all__ if _is_algorithm(getattr(infer, name))]


def _is_algorithm(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Algorithm) and not inspect.isabstract(value)


def find_algorithm(name: str) -> type[Algorithm]:
    """The algorithm of a name.

    Raises:
        StudyConfigError: there is none.
    """
    if name not in algorithm_names():
        raise StudyConfigError(unknown("algorithm", name, algorithm_names()))
    return getattr(infer, name)


def parameters(kind: type[Algorithm]) -> list[str]:
    """The options of an algorithm that a study may set, sizes among them."""
    return [name for name in inspect.signature(kind).parameters if name not in _GIVEN_BY_THE_STUDY]


def check_spec(spec: AlgorithmSpec) -> type[Algorithm]:
    """The algorithm of an entry, its options being known ones.

    Raises:
        StudyConfigError: there is no such algorithm, it has no such option or size, a size stands among the options, or
            a search is to decide by another rule than its own.
    """
    kind = find_algorithm(spec.algorithm)
    sizes = [name for name in parameters(kind) if name in SIZES]
    options = [name for name in parameters(kind) if name not in SIZES]
    for name in spec.options:
        if name in sizes:
            raise StudyConfigError(
                f"{name} is a size, which the budget decides; to fix it, write split: {{{name}: {spec.options[name]}}}."
            )
        if name not in options:
            raise StudyConfigError(unknown(f"option of {spec.algorithm}", name, options))
    if spec.decide is not None and issubclass(kind, Search):
        raise StudyConfigError(
            f"decide: {spec.decide}: {spec.algorithm} is a search, which decides by a rule of its own; leave it out."
        )
    for name in spec.split:
        if name not in sizes:
            raise StudyConfigError(f"split: {unknown(f'size of {spec.algorithm}', name, sizes)}")
    return kind


def make_algorithm(name: str, model: Any, options: Mapping[str, Any], budget: Budget | None = None) -> Algorithm:
    """The algorithm with its options, some of which YAML writes as mappings.

    Raises:
        OptionError: an option has a value that it cannot have.
    """
    made = dict(options)
    if isinstance(made.get("tempering"), Mapping):
        try:
            made["tempering"] = infer.AdaptiveTempering(**made["tempering"])
        except TypeError as error:
            raise StudyConfigError(f"tempering: {error}") from error
    return find_algorithm(name)(model, progress=False, budget=budget, **made)
