"""Bringing a program to its end whose run has spent its budget, or whose reward has failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro_llm.errors import RewardError
from pyro_llm.handlers.endless import Endless
from pyro_llm.infer.posterior import Posterior
from pyro_llm.run_scope import BudgetSpent, current_run_scope

REWARD = "reward"
"""What `stopped_by` says of a run that a reward ended."""


def stop_for_reward() -> None:
    """Have the run in progress spend nothing more, as its reward has failed."""
    scope = current_run_scope()
    assert scope is not None
    scope.stopped_by = REWARD


def delivered(make: Callable[[], Posterior], failure: RewardError | None) -> Posterior:
    """The posterior of a run; or the failure of the reward that ended it is raised, and carries it."""
    if failure is None:
        return make()
    try:
        failure.posterior = make()
    except Exception as error:
        failure.add_note(f"What the run had makes no posterior: {type(error).__name__}: {error}")
    try:
        raise failure
    finally:
        del failure  # the error would refer to this frame, and this frame to the error


def returned_at_end(execute: Callable[[], Any]) -> Any:
    """What a program returns that is executed once more, when nothing may be spent; None if it does not come to an end.

    A program may not be ready for that (it fails on texts that have no answer yet, asks for a score outside a site, or
    writes until all texts have ended). What its run has is worth more than its return value: the `BudgetWarning` says
    what has become of it.
    """
    try:
        return execute()
    except BudgetSpent:
        obstacle = "it asks for more outside its sample sites"
    except Endless:
        obstacle = "it goes on as long as texts are unfinished"
    except Exception as error:
        obstacle = f"{type(error).__name__}: {error}"
    scope = current_run_scope()
    assert scope is not None
    scope.unended = obstacle
    return None
