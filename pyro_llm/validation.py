"""What pydantic finds wrong with a value, in one line."""

from __future__ import annotations

from pydantic import ValidationError


def reason(error: ValidationError, whole: str = "the line") -> str:
    """The faults of a value, by field.

    Args:
        error: what pydantic raised.
        whole: what a fault of no single field is said of.

    Example:
        >>> from pydantic import TypeAdapter
        >>> try:
        ...     TypeAdapter(dict[str, int]).validate_python({"seed": "x"})
        ... except ValidationError as error:
        ...     print(reason(error))
        seed: Input should be a valid integer, unable to parse string as an integer
    """
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or whole}: {fault['msg']}" for fault in error.errors())
