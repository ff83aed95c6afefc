"""The variants of a study: what each changes in the parts that all share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.advice import unknown
from pyro_llm.study.config import StudyConfig, parse_config

PARTS = ("lm", "reward", "program", "algorithms", "budgets", "answer", "grader")
"""What a variant may change."""

WHOLE = ""
"""The label of the only variant of a study that has none."""


def resolve_variants(config: StudyConfig) -> dict[str, StudyConfig]:
    """By label, the configuration of each variant, in which nothing varies any more.

    Raises:
        StudyConfigError: a variant changes what it may not, or what comes out is no configuration.

    Example:
        >>> config = parse_config({
        ...     "algorithms": {"PF": {"algorithm": "SMC"}}, "budgets": {"generations": [4]},
        ...     "variants": {"warm": {"program": {"temperature": 2.0}}},
        ... })
        >>> resolve_variants(config)["warm"].program.temperature
        2.0
    """
    shared = config.model_dump(mode="json", exclude={"variants"})
    if not config.variants:
        return {WHOLE: config}
    resolved = {}
    for label, changes in config.variants.items():
        for key in changes:
            if key not in PARTS:
                raise StudyConfigError(f"variants: {label}: {unknown('key', key, PARTS)}")
        named = {key: {"load": part} if key in ("lm", "reward") and isinstance(part, str) else part
                 for key, part in changes.items()}  # fmt: skip
        try:
            resolved[label] = parse_config(merged(shared, named))
        except StudyConfigError as error:
            raise StudyConfigError(f"variants: {label}: {error}") from error
    return resolved


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings merged entry by entry; None takes an entry away, anything else replaces it.

    >>> merged({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"x": 5, "y": None}})
    {'a': {'x': 5}, 'b': 3}
    """
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
