"""What is an integer; and what pydantic finds wrong with a value, in one line."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

_WORDS = {
    "Input should be a valid ": "it should be a ",
    "it should be a integer": "it should be an integer",
    "it should be a dictionary": "it should be a mapping, {key: value}",
    "it should be a list": "it should be a list, [1, 2]",
    "Input should be ": "it should be ",
    "Field required": "it is missing",
}


def as_integer(value: Any) -> int | None:
    """The integer that a value is, NumPy's integers among them; None if it is none, as truth values are.

    >>> import numpy as np
    >>> as_integer(np.int64(3)), as_integer(3.0), as_integer(True)
    (3, None, None)
    """
    if isinstance(value, bool) or "bool" in str(getattr(value, "dtype", "")):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def reason(error: ValidationError, whole: str = "the line") -> str:
    """The faults of a value, by field.

    Args:
        error: what pydantic raised.
        whole: what a fault of no single field is said of.

    Example:
        >>> from pydantic import TypeAdapter, ValidationError
        >>> try:
        ...     TypeAdapter(dict[str, int]).validate_python({"seed": "x"})
        ... except ValidationError as error:
        ...     print(reason(error))
        seed: it should be an integer, unable to parse string as an integer
    """
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or whole}: {_said(fault)}" for fault in error.errors())


def _said(fault: Any) -> str:
    """What is wrong, without pydantic's names for it."""
    said = str(fault["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    for theirs, ours in _WORDS.items():
        said = said.replace(theirs, ours)
    return said
