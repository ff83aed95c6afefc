"""The work of a study: one cell on some problems, in this process."""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import torch

from pyro_llm import __version__
from pyro_llm.errors import BudgetWarning, DeadRunWarning, UnhealthyRunWarning
from pyro_llm.infer import Outcome
from pyro_llm.models import ReasoningSSM
from pyro_llm.study.algorithms import make_algorithm
from pyro_llm.study.deciding import LastRewards
from pyro_llm.study.grading import load_grader
from pyro_llm.study.grid import Cell, Setting
from pyro_llm.study.models import disturbed, load_language_model, load_study_reward
from pyro_llm.study.problem import Problem
from pyro_llm.study.reading import ReadAnswer, facts, load_answer
from pyro_llm.study.rows import Row
from pyro_llm.study.shared_time import SharedTime


@dataclass(frozen=True)
class Task:
    """One cell on some of the problems.

    Attributes:
        cell: what is run.
        problems: on what.
        concurrent: how many problems are worked on at a time.
    """

    cell: Cell
    problems: tuple[Problem, ...]
    concurrent: int = 1

    @property
    def weight(self) -> float:
        """How much work it is beside others, roughly."""
        return self.cell.weight * len(self.problems)


def do(task: Task) -> Generator[Row]:
    """Make the runs of a task; a row as each ends, also of one that fails.

    Raises:
        PyroLLMError: a model cannot be loaded, or there is no such grader.
    """
    cell, clock = task.cell, SharedTime()
    read, grader = load_answer(cell.setting.answer), load_grader(cell.setting.grader)
    model, rewards = program(cell.setting, cell.seed), None
    if cell.decide is not None:
        rewards = LastRewards(model.reward)
        model = replace(model, reward=rewards)
    algorithm = make_algorithm(cell.method, model, cell.options, cell.limit)

    def begun() -> Iterator[str]:
        for index, problem in enumerate(task.problems):
            clock.begin(index)
            yield problem.prompt

    seeds = [cell.seed_of(problem) for problem in task.problems]
    with (
        _quiet(),
        closing(algorithm.iter_each(begun(), concurrent=task.concurrent, seeds=seeds, progress=False)) as runs,
    ):
        for outcome in runs:
            seconds = clock.end(outcome.index)
            problem = task.problems[outcome.index]
            row = blank_row(cell, problem) | {"seconds": seconds}
            try:
                row |= _came_out(outcome, read, rewards)
                if row.get("error") is None:
                    row["right"] = grader.grade(row["decision"], problem)
            except Exception as error:
                row |= failed(error)
            yield Row(**row)
            clock.resume()


def blank_row(cell: Cell, problem: Problem) -> dict[str, Any]:
    """What a row says of the run, whatever comes out of it."""
    return {
        "key": cell.key(problem),
        "variant": cell.variant,
        "algorithm": cell.algorithm,
        "kind": cell.kind,
        "budget": cell.budget,
        "seed": cell.seed,
        "problem": problem.source_id,
        "version": __version__,
    }


def failed(error: BaseException) -> dict[str, Any]:
    """What a row says of a run that failed."""
    return {"error": f"{type(error).__name__}: {error}", "right": False}


def _came_out(outcome: Outcome, read: ReadAnswer, rewards: LastRewards | None) -> dict[str, Any]:
    if outcome.posterior is None:
        return failed(outcome.error or RuntimeError("there is neither a posterior nor an error"))
    return facts(outcome.posterior, read, rewards) | {"cost": asdict(outcome.posterior.cost)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Runs that die, and budgets that are spent, are in the rows; of the health of one run in hundreds nobody reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BudgetWarning)
        warnings.simplefilter("ignore", DeadRunWarning)
        warnings.simplefilter("ignore", UnhealthyRunWarning)
        yield


def program(setting: Setting, seed: int = 0) -> ReasoningSSM:
    """The program of a setting; its models are loaded once in a process. The seed is of a disturbed reward.

    Raises:
        PyroLLMError: a model cannot be loaded.
    """
    reward = _reward(json.dumps(setting.reward), seed)
    return ReasoningSSM(_lm(json.dumps(setting.lm)), reward, **setting.program)


@cache
def _lm(spec: str) -> Any:
    return load_language_model(json.loads(spec))


@cache
def _reward(spec: str, seed: int) -> Any:
    options = json.loads(spec)
    disturbance = options.pop("disturbance", None)
    if disturbance is not None:  # the reward under it is the same for all seeds, and loaded once
        return disturbed(_reward(json.dumps(options), 0), disturbance, seed)
    return load_study_reward(options) if seed == 0 else _reward(spec, 0)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread, as the processes of a study do, so that figures do not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
