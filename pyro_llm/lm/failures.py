"""Errors that a language model's reading ends in, wherever that is."""

from __future__ import annotations

from pyro_llm.errors import LogitsError, OutOfMemoryError


def not_a_number(name: str) -> LogitsError:
    """That of logits that are NaN."""
    return LogitsError(
        f"{name!r} gave logits that are NaN. In half precision this is an overflow: load the model "
        "with dtype='bfloat16' or 'float32'. If it is in one of these, its weights are broken."
    )


def out_of_memory(name: str, cause: BaseException) -> OutOfMemoryError:
    """That of a single row which does not fit."""
    error = OutOfMemoryError(
        f"There is not enough memory for {name!r} to go on with a single text. Load it with dtype='bfloat16', shorten "
        f"the prompt or max_tokens, or free what others hold. ({str(cause).strip().splitlines()[0]})"
    )
    error.__cause__ = cause
    return error
