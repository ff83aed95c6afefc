"""What all algorithms share: a program, options, and the frame of a run."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import pyro
import pyro.poutine as poutine
import torch

from pyro_llm.budget import Budget
from pyro_llm.errors import BudgetWarning, OptionError, ReplayError
from pyro_llm.handlers.around import check_no_handlers_around
from pyro_llm.infer.many_problems import ManyProblems
from pyro_llm.infer.progress import ProgressOption, progress_callback
from pyro_llm.ops.steps import StepReport
from pyro_llm.run_scope import Cost, RunScope, run_scope


class Options(Protocol):
    """What an algorithm is set to."""

    @property
    def num_particles(self) -> int:
        """The size of one population."""
        ...

    def settings(self) -> dict[str, Any]:
        """The options as they are reported, by name."""
        ...


@dataclass
class Run:
    """A run in progress.

    Attributes:
        on_step: what is to be told of each step.
        scope: what the run keeps, and spends.
        seed: torch's initial seed when it began.
    """

    on_step: Callable[[StepReport], None] | None
    scope: RunScope
    seed: int = field(default_factory=torch.initial_seed)

    @property
    def cost(self) -> Cost:
        """What the run spends; its time when it has ended."""
        return self.scope.cost


class Algorithm(ManyProblems):
    """A program and the options by which it is run.

    Args:
        model: the program.
        options: what the algorithm is set to.
        progress: whether, or by what, its steps are shown.
        budget: what each run may spend at most.
        generations: how many the smallest part of a run begins.

    Raises:
        OptionError: the model cannot be called, or the budget is none, or has too few generations to begin with.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        options: Options,
        progress: ProgressOption,
        budget: Budget | None = None,
        generations: int = 1,
    ) -> None:
        if not callable(model):
            raise OptionError(f"The model must be a function that makes Pyro statements, not {model!r}.")
        if budget is not None and not isinstance(budget, Budget):
            raise OptionError(f"budget={budget!r}: give a Budget, or None.")
        if budget is not None and budget.generations is not None and budget.generations < generations:
            raise OptionError(
                f"The budget has {budget.generations} generations, and {type(self).__name__} begins {generations} at a "
                "time: use fewer particles (or runs), or allow more generations."
            )
        self.model, self.options, self.progress, self.budget = model, options, progress, budget

    @contextmanager
    def _running(self, args: tuple[Any, ...], kwargs: dict[str, Any], populations: str = "") -> Iterator[Run]:
        """Within it programs are executed: without gradients, seen by no handler around, their cost counted."""
        started = time.perf_counter()
        _check_arguments([*args, *kwargs.values()])
        check_no_handlers_around(type(self).__name__)
        num_particles = self.options.num_particles
        title = f"{type(self).__name__}, {populations}{num_particles} particles"
        with (
            torch.no_grad(),
            poutine.block(),
            run_scope(RunScope(budget=self.budget, began=started)) as scope,
            progress_callback(self.progress, title, num_particles) as on_step,
        ):
            yield Run(on_step, scope)
        scope.cost.seconds = time.perf_counter() - started
        scope.cost.lm_tokens_read = scope.cost.lm_tokens_input  # of sessions that count no reading
        self._warn_of_stop(scope)

    def _warn_of_stop(self, scope: RunScope) -> None:
        """Say so if the run has spent its budget."""
        if self.budget is None or scope.stopped_by not in self.budget.limits:  # nothing did, or a reward
            return
        item = scope.stopped_by
        spent, limit = self.budget.spent(item, scope.cost), self.budget.limits[item]
        unended = (
            "" if scope.unended is None else f" It has no return value, as the program has no end: {scope.unended}."
        )
        warnings.warn(
            f"{type(self).__name__} has spent its budget of {limit:,} {item}: {spent:,.6g} are spent, and what came "
            f"next would have been too much. The posterior is that of what was done by then.{unended}",
            BudgetWarning,
            stacklevel=5,  # whoever called `run`: this, `_running`, what leaves it, and `run` itself lie between
        )

    def _settings(self) -> dict[str, Any]:
        return self.options.settings()

    def _reported(self, run: Run) -> dict[str, Any]:
        """The settings of a posterior."""
        settings = {"algorithm": type(self).__name__, **run.scope.noted, **self._settings()}
        if self.budget is not None:
            settings["budget"] = self.budget.settings()
        if self.budget is not None or run.scope.stopped_by is not None:
            settings["stopped_by"] = run.scope.stopped_by
        return {**settings, "initial_seed": run.seed, "versions": dict(_versions())}

    def __repr__(self) -> str:
        name = getattr(self.model, "__name__", None) or repr(self.model)
        settings = "".join(f", {option}={value!r}" for option, value in self._settings().items())
        return f"{type(self).__name__}({name}{settings})"


def _check_arguments(arguments: list[Any]) -> None:
    for argument in arguments:
        if isinstance(argument, Iterator):
            raise ReplayError(
                f"An argument of the program is a {type(argument).__name__}, which the first execution would use up. "
                "Programs are executed again after resampling: pass a list."
            )


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "torch": str(torch.__version__), "pyro": pyro.__version__}
    try:
        versions["pyro_llm"] = version("pyro-llm")
    except PackageNotFoundError:  # run from a source tree that is not installed
        versions["pyro_llm"] = "unknown"
    return versions
