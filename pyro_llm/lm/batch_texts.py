"""Texts of particles that are executed together, which Python must not take for a single text.

In such a run a program holds the texts of all particles at once, while a prompt, or an `if`, is one for all of them.
Outside of a run these are ordinary arrays and strings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pyro_llm.errors import BatchedBranchError
from pyro_llm.run_scope import current_run_scope

SCALAR_ADVICE = (
    'Run a program that does so with particles="scalar" (of `SMC` or `Importance`): it is then executed once for each '
    "particle, and `state.texts.item()` is that particle's text."
)


def particles_share_execution() -> bool:
    """Whether the program in progress is executed once for all particles."""
    scope = current_run_scope()
    return scope is not None and scope.particles_share_execution


@contextmanager
def row_by_row() -> Iterator[None]:
    """What a block does with texts it does for each row by itself, as a reward may, whose results are one for each."""
    scope = current_run_scope()
    if scope is None or not scope.particles_share_execution:
        yield
        return
    scope.particles_share_execution = False
    try:
        yield
    finally:
        scope.particles_share_execution = True


def refuse(what: str) -> None:
    """Raise BatchedBranchError in an execution that all particles share.

    Args:
        what: what the program would do for all particles at once.
    """
    if particles_share_execution():
        raise BatchedBranchError(
            f"The program {what}, and it is executed once for all particles. {SCALAR_ADVICE} "
            "To look at texts while it runs, print(state.texts.tolist())."
        )


class RowText(str):
    """The text of one row, picked from those of all particles: no part of anything that all particles share.

    A function of it may do with it whatever can be done with a string. It is no prompt, and nor is what `+` makes of
    it, another `RowText`. An f-string gives a plain string: what becomes of that in a prompt, a replay shows.
    """

    __slots__ = ()

    def __add__(self, other: str) -> RowText:
        return RowText(super().__add__(other))

    def __radd__(self, other: str) -> RowText:
        return RowText(str(other) + str(self))

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)


class BatchTexts(np.ndarray):
    """Texts by particle. All that goes row by row is as for any array; what asks for one answer is not."""

    def __format__(self, format_spec: str) -> str:
        refuse("writes the texts of all particles into one string")
        return super().__format__(format_spec)

    def __str__(self) -> str:
        refuse("makes one string of the texts of all particles")
        return super().__str__()

    def __contains__(self, item: object) -> bool:
        refuse(f"asks whether {item!r} is in the texts of all particles (`texts == {item!r}` asks it row by row)")
        return bool(super().__contains__(item))

    def __bool__(self) -> bool:
        refuse("asks whether the texts of all particles are true")
        return super().__bool__()

    def __getitem__(self, key: Any) -> Any:
        return _marked(super().__getitem__(key))

    def item(self, *args: Any) -> Any:
        """A single text: of one particle, and not to be taken for that of all."""
        return _marked(super().item(*args))

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        # What is computed row by row, as `texts == "yes"` is, is an ordinary array.
        array = np.asarray(array)
        return array[()] if return_scalar else array

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


def batch_texts(texts: np.ndarray) -> np.ndarray:
    """An array of texts, guarded if it has those of several particles that are executed together."""
    return texts.view(BatchTexts) if texts.size > 1 and particles_share_execution() else texts


def _marked(item: Any) -> Any:
    return RowText(item) if type(item) is str else item
