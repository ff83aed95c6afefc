"""Bringing a program to its end whose run has spent its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyro_llm.handlers.endless import Endless
from pyro_llm.run_scope import BudgetSpent, current_run_scope


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
