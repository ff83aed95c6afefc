"""Functionals of texts by name, `{"right": lambda text: answer(text) == "95"}` say: what may be given, and taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from pyro_llm.errors import OptionError
from pyro_llm.infer.posterior import Posterior

_ADVICE = "They are functions of a text. A latent site that is one real number for each particle is looked at anyway."


def check_functionals(posterior: Posterior, functionals: Any, *, of_one_text: bool) -> None:
    """Raise OptionError for functionals that do not apply.

    Args:
        posterior: whose texts they are for.
        functionals: what a user gave; None is none.
        of_one_text: whether there must be one text for each particle.
    """
    if functionals is None:
        return
    if not isinstance(functionals, Mapping) or not all(map(callable, functionals.values())):
        raise OptionError(
            f"functionals={functionals!r}: give functions of a text by name, such as "
            '{"right": lambda text: answer(text) == "95"}.'
        )
    if not functionals:
        return
    names = ", ".join(map(repr, functionals))
    if not posterior.has_texts:
        raise OptionError(f"The functionals {names} do not apply: the program returns no text. {_ADVICE}")
    if of_one_text and not posterior.written.single:
        raise OptionError(
            f"The functionals {names} do not apply: the program's plates give each particle several texts, and R-hat "
            f"compares one number for each. {_ADVICE}"
        )


def of_distinct(fn: Callable[[str], Any], texts: np.ndarray) -> dict[str, Any]:
    """`fn` of each distinct text."""
    return {text: fn(text) for text in dict.fromkeys(texts.flat)}


def are_numbers(values: Iterable[Any]) -> bool:
    """Whether all are numbers or truth values."""
    return all(isinstance(value, bool | int | float | np.number | np.bool_) for value in values)
