"""Programs that do not come to their end although nothing more is written."""

from __future__ import annotations

MOST_SITES_AFTER_STOP = 10_000


class Endless(BaseException):
    """Leaves a program whose run has spent its budget, after so many more sites. No `Exception`, as `Restart` is."""
