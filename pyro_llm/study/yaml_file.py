"""A study's configuration as a YAML file."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pyro_llm.errors import StudyConfigError


class _Loader(yaml.SafeLoader):
    """Refuses a key that occurs twice, of which PyYAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise StudyConfigError(f"{_place(key_node.start_mark)}: the key {key!r} occurs twice.")
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        StudyConfigError: the file cannot be read, is not YAML, or holds no mapping; it names the line.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise StudyConfigError(f"Cannot read the configuration {str(path)!r}: {why}.") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise StudyConfigError(f"{str(path)!r} holds no mapping: a study has keys such as `algorithms:`, `budgets:`.")
    return value


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML text.

    Raises:
        StudyConfigError: it is not YAML; it names the source and line.

    Example:
        >>> parse_yaml("{generations: [1, 4]}", "--option")
        {'generations': [1, 4]}
    """
    loader = _Loader(text)
    loader.name = source
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        place = _place(error.problem_mark) if error.problem_mark else source
        raise StudyConfigError(f"{place}: not YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise StudyConfigError(f"{source}: not YAML: {error}.") from error
    finally:
        loader.dispose()


def _place(mark: Any) -> str:
    return f"{mark.name}:{mark.line + 1}"
