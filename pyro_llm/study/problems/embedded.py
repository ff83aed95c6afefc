"""The problems that come with an embedded model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyro_llm import zoo
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.spec import ProblemSpec


class EmbeddedSpec(ProblemSpec):
    """The set of an embedded model.

    Attributes:
        set: its name, that of an embedded model.
    """

    set: str


def problems_of_embedded(spec: Mapping[str, Any]) -> list[Problem]:
    """The published test problems of an embedded model.

    Raises:
        StudyConfigError: an option is wrong.
        UnknownModelError: there is no such set.
    """
    options = EmbeddedSpec.of(spec)
    found = zoo.problems(options.set)
    return options.choose([Problem(one["problem"], one["answer"], str(one["id"])) for one in found])
