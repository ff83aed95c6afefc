"""Options that count something."""

from __future__ import annotations

from typing import Any

from pyro_llm.errors import OptionError
from pyro_llm.validation import as_integer


def check_count(name: str, value: Any, at_least: int = 1) -> int:
    """The whole number that a value is; raises OptionError if it is none of at least that size.

    Example:
        >>> check_count("workers", 1.5)
        Traceback (most recent call last):
        pyro_llm.errors.OptionError: workers=1.5: give a whole number, at least 1.
    """
    if (integer := as_integer(value)) is None or integer < at_least:
        raise OptionError(f"{name}={value!r}: give a whole number, at least {at_least}.")
    return integer


def set_counts(options: Any, **at_least: int) -> None:
    """Put plain integers in the place of these fields of frozen options, checked by `check_count`."""
    for name, least in at_least.items():
        object.__setattr__(options, name, check_count(name, getattr(options, name), least))
