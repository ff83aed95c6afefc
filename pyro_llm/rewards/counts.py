"""Options that count something."""

from __future__ import annotations

from typing import Any

from pyro_llm.errors import OptionError
from pyro_llm.validation import as_integer


def check_count(name: str, value: Any) -> None:
    """Raise OptionError for what is no whole number of at least 1.

    Example:
        >>> check_count("workers", 1.5)
        Traceback (most recent call last):
        pyro_llm.errors.OptionError: workers=1.5: give a whole number, at least 1.
    """
    if (integer := as_integer(value)) is None or integer < 1:
        raise OptionError(f"{name}={value!r}: give a whole number, at least 1.")
