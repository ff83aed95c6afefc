"""Problems that reasoning-gym generates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from pyro_llm.errors import MissingExtraError, StudyConfigError
from pyro_llm.study.advice import unknown
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.spec import ProblemSpec


@dataclass(frozen=True)
class TaskProblem(Problem):
    """A problem of a reasoning-gym task, with what the task's verifier needs.

    Attributes:
        task: its name.
        question: as the task asks it, without a template around it.
        metadata: of the problem, as the task gives it.
    """

    task: str
    question: str
    metadata: Mapping[str, Any] = field(repr=False, compare=False)


class TaskSpec(ProblemSpec):
    """A reasoning-gym task.

    Attributes:
        task: its name, `leg_counting` say.
        number: how many problems.
        seed: of the generator: the same seed gives the same problems.
        options: of the task, `{min_animals: 1, max_animals: 3}` say.
    """

    task: str
    number: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)


def problems_of_task(spec: Mapping[str, Any]) -> list[Problem]:
    """Problems that a reasoning-gym task generates.

    The first of them are the same whatever their number.

    Raises:
        MissingExtraError: reasoning-gym is not installed.
        StudyConfigError: there is no such task, or an option is wrong.
    """
    options = TaskSpec.of(spec)
    gym = package()
    try:
        tasks = gym.create_dataset(
            options.task, seed=options.seed, size=options.start + options.number, **options.options
        )
    except ValueError as error:
        known = sorted(gym.factory.DATASETS)
        if options.task not in known:
            raise StudyConfigError(f"problems.task: {unknown('task', options.task, known)}") from error
        raise StudyConfigError(f"problems.options of {options.task!r}: {error}") from error
    except (TypeError, AssertionError) as error:
        raise StudyConfigError(f"problems.options of {options.task!r}: {error}") from error
    return options.choose(
        [
            TaskProblem(
                prompt=entry["question"],
                answer=str(entry["answer"]),
                source_id=f"{options.task}-{options.seed}-{index}",
                task=options.task,
                question=entry["question"],
                metadata=entry["metadata"],
            )
            for index, entry in enumerate(tasks)
        ]
    )


def package() -> Any:
    """reasoning-gym.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import reasoning_gym
    except ImportError as error:
        raise MissingExtraError(
            "Tasks of reasoning-gym need the package reasoning-gym: pip install 'pyro-llm[study]'."
        ) from error
    return reasoning_gym
