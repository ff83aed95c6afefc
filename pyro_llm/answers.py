"""From the text of a solution to its final answer."""

from __future__ import annotations

import re

from pyro_llm.errors import NoTextError

_LINE = re.compile(r"^[ \t]*(?:final[ \t]+)?answer[ \t]*:(.*)$", re.IGNORECASE | re.MULTILINE)
_HASHES = re.compile(r"^[ \t]*####(.*)$", re.MULTILINE)
_BOXED = re.compile(r"\\boxed\s*\{")


def answer(text: str) -> str | None:
    r"""The final answer that a solution states, or None if it states none.

    Three ways of stating it are known: a line `answer: X`, LaTeX's `\boxed{X}` with balanced braces, and a line `####
    X` as in GSM8K. They are looked for in this order; of several statements in the same form the last counts, as a
    solution may correct itself. An empty statement, or braces that never close (a text cut off), state nothing.

    Args:
        text: the text of a solution.

    Returns:
        The answer without surrounding blanks.

    Raises:
        NoTextError: `text` is no string.

    Examples:
        >>> answer("47 + 48 = 95\nanswer: 95")
        '95'
        >>> answer(r"So $\boxed{12}$, no: $x = \boxed{\frac{1}{2}}$.")
        '\\frac{1}{2}'
        >>> answer("He sells 9 eggs.\n#### 18")
        '18'
        >>> answer("47 + 48 = ") is None
        True
    """
    if not isinstance(text, str):
        raise NoTextError(
            f"answer takes the text of a solution, a string, not a {type(text).__name__}; of a posterior, "
            "`posterior.marginal(pyro_llm.answer)` reads all"
        )
    for statements in (_LINE.findall(text), _boxed(text), _HASHES.findall(text)):
        for statement in reversed(statements):
            if statement.strip():
                return statement.strip()
    return None


def _boxed(text: str) -> list[str]:
    r"""The contents of every `\boxed{...}` whose braces balance, in order."""
    contents = []
    for match in _BOXED.finditer(text):
        depth = 1
        for end in range(match.end(), len(text)):
            if text[end - 1] == "\\" and text[end] in "{}":  # `\{` is a character of the answer, not a brace
                continue
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                contents.append(text[match.end() : end])
                break
    return contents
