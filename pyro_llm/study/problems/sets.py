"""Sets of problems by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_llm import zoo
from pyro_llm.errors import StudyConfigError
from pyro_llm.study.advice import unknown
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.embedded import problems_of_embedded
from pyro_llm.study.problems.published import PUBLISHED, problems_of_published


def problems_of_set(spec: Mapping[str, Any]) -> list[Problem]:
    """The problems of a published set, or those that come with an embedded model.

    Raises:
        StudyConfigError: there is no such set, or an option is wrong.
        ProblemFileError: a file cannot be read, or a line of it is no problem.
        MissingExtraError: a set is to be fetched, and the package datasets is not installed.
    """
    name = spec["set"]
    if name in PUBLISHED:
        return problems_of_published(spec)
    if name not in zoo.names():
        raise StudyConfigError(f"problems: {unknown('set', str(name), [*zoo.names(), *PUBLISHED])}")
    return problems_of_embedded(spec)
