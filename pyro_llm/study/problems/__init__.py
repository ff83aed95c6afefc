"""The problems of a study, from wherever its configuration says.

A source is a function from the part `problems:` of a configuration to a list of problems, registered in `SOURCES` by
the key that names it there: `{set: abacus, number: 100}` is read by the source `set`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems.lines import problems_of_file
from pyro_llm.study.problems.reasoning_gym import problems_of_task
from pyro_llm.study.problems.sets import problems_of_set

__all__ = ["SOURCES", "load_problems"]

Source = Callable[[Mapping[str, Any]], list[Problem]]

SOURCES: dict[str, Source] = {"set": problems_of_set, "file": problems_of_file, "task": problems_of_task}
"""From the key that names a source to what reads it."""


def load_problems(spec: Mapping[str, Any]) -> list[Problem]:
    """The problems that a configuration names.

    Args:
        spec: `{set: abacus, number: 100}`, or `{file: my.jsonl, problem: question, answer: answer}`, and what other
            sources take; `number` and `start` choose among the problems.

    Raises:
        StudyConfigError: it names no source, or several, or has options that the source has not; or there is no
            problem, or two have one id.
        ProblemFileError: a file cannot be read, or a line of it is no problem.

    Example:
        >>> [problem.answer for problem in load_problems({"set": "abacus", "number": 2})]
        ['38', '130']
    """
    named = [name for name in SOURCES if name in spec]
    if len(named) != 1:
        raise StudyConfigError(
            f"problems: name one source, by one of the keys {', '.join(SOURCES)}, such as {{set: abacus}}; there "
            + (f"are {', '.join(named)}." if named else f"is none in {dict(spec)!r}.")
        )
    problems = SOURCES[named[0]](spec)
    if not problems:
        raise StudyConfigError(f"problems: there are none in {dict(spec)!r}.")
    seen: set[str] = set()
    for problem in problems:
        if problem.source_id in seen:
            raise StudyConfigError(f"problems: two have the id {problem.source_id!r}; give each its own.")
        seen.add(problem.source_id)
    return problems
