"""Numbers of things in sentences."""

from __future__ import annotations


def counted(number: float, plural: str) -> str:
    """A number with its noun, in the singular where there is one thing.

    >>> counted(1, "generations"), counted(4.0, "generations"), counted(0.5, "seconds")
    ('1 generation', '4 generations', '0.5 seconds')
    """
    return f"{number:g} {plural.removesuffix('s') if number == 1 else plural}"


def are(number: float) -> str:
    """The verb of so many things."""
    return "is" if number == 1 else "are"
