"""A problem that algorithms are compared on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A problem and what its answer should be.

    Attributes:
        prompt: what the language model is given.
        answer: the right answer, as text.
        source_id: names the problem in its set; no two problems of a study share one.
    """

    prompt: str
    answer: str
    source_id: str
