"""What is wrong with a configuration, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

from pyro_llm.validation import reason


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """That a name is unknown, which is nearest to it, and which there are.

    >>> unknown("key", "buget", ["budgets", "seeds"])
    "unknown key 'buget', did you mean 'budgets'? There are budgets, seeds."
    """
    known = sorted(known)
    folded = {one.casefold(): one for one in known}
    near = [folded[one] for one in get_close_matches(name.casefold(), folded, 1)]
    return (
        f"unknown {what} {name!r}"
        + (f", did you mean {near[0]!r}?" if near else ".")
        + f" There are {', '.join(known)}."
    )


def faults(error: ValidationError, model: type[BaseModel]) -> str:
    """The faults of a configuration in one line; unknown keys with the one that was probably meant."""
    strange = [fault for fault in error.errors() if fault["type"] == "extra_forbidden"]
    if not strange:
        return reason(error, whole="the configuration")
    *path, key = strange[0]["loc"]
    fields: Iterable[str] = model.model_fields
    for part in path:
        inner = next((field.annotation for name, field in model.model_fields.items() if name == part), None)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return reason(error, whole="the configuration")
        model, fields = inner, inner.model_fields
    return ".".join(map(str, path)) + (": " if path else "") + unknown("key", str(key), fields)
