r"""Answers that count as one however they are written: `1/2`, `0.5` and `\frac{1}{2}`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyro_llm.answers import answer
from pyro_llm.rewards.isolation.pool import WorkerPool
from pyro_llm.rewards.verifiers.math_verify import check_installed, reader

_UNREADABLE = -1.0
_REMEMBERED = 2**16


@dataclass(frozen=True)
class MathAnswer:
    r"""An answer as it was written first, equal to every other that means the same.

    Attributes:
        text: as it was written.
        form: what it means; the text itself where that is unknown.

    Example:
        >>> MathAnswer("0.5", 1.0) == MathAnswer(r"\frac{1}{2}", 1.0) != MathAnswer("0.5", "0.5")
        True
    """

    text: str = field(compare=False)
    form: float | str

    def __str__(self) -> str:
        return self.text


class MathAnswers:
    """Reads answers as `pyro_llm.answer` does, those that are mathematically equal as equal ones.

    math-verify reads them (extra `verifiers`), in another process, as SymPy may take for ever; `canonical_form` says
    what is equal. What cannot be read, or takes too long, is equal to the same text alone.

    Args:
        timeout: seconds for an answer.

    Raises:
        MissingExtraError: math-verify is not installed.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        check_installed("Reading answers that are mathematically equal as one")
        self._pool = WorkerPool(_make_reading(), timeout, 1)
        self._form = lru_cache(_REMEMBERED)(self._ask)

    def __call__(self, text: str) -> MathAnswer | None:
        """The answer that a text states; None if it states none."""
        stated = answer(text)
        return None if stated is None else MathAnswer(stated, self._form(stated))

    def _ask(self, stated: str) -> float | str:
        (reply,) = self._pool.map([stated], lambda reply: False)
        read = reply.kind == "returned" and reply.value != _UNREADABLE
        return reply.value if read and isinstance(reply.value, float) else stated


def _make_reading() -> Callable[[], Callable[[str], float]]:
    make_reader, unreadable = reader(), _UNREADABLE
    path = str(Path(__file__).with_name("canonical_form.py"))

    def make() -> Callable[[str], float]:
        import runpy

        form_of: Any = runpy.run_path(path)["form_of"]
        read = make_reader()

        def digest(statement: str) -> float:
            """52 bits of the form's hash, a number that a double holds: numbers are what the process returns."""
            form = form_of(statement, read)
            return unreadable if form is None else float(int(hashlib.sha256(form.encode()).hexdigest()[:13], 16))

        return digest

    return make
