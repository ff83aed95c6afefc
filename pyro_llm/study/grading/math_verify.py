"""Grading by mathematical equality."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pyro_llm.errors import RewardFunctionError
from pyro_llm.rewards.isolation.pool import WorkerPool
from pyro_llm.rewards.verifiers.math_verify import check_installed, reader
from pyro_llm.study.grading.same_answer import same_answer
from pyro_llm.study.problem import Problem

_UNREADABLE = -1.0


class MathVerifyGrader:
    r"""Grades by math-verify: `1/2`, `0.5` and `\frac{1}{2}` are equal, as in `MathVerifyReward` (extra `verifiers`).

    A decision that is the answer as a text, or the same number, is right without it; so are answers that math-verify
    cannot read, a name say, to be had. It runs in another process, one for all problems; where it takes longer than
    `timeout` seconds, or its process ends, the decision is wrong.

    Args:
        timeout: seconds for a decision.

    Raises:
        MissingExtraError: math-verify is not installed.
    """

    def __init__(self, timeout: float = 5.0) -> None:
        check_installed("Grading by mathematical equality")
        self.timeout = timeout
        self._pool: WorkerPool | None = None

    def grade(self, decision: str | None, problem: Problem) -> bool:
        """Whether the decision is equal to the problem's answer."""
        if decision is None:
            return False
        return same_answer(decision, problem.answer) or self.equal(problem.answer, decision) is True

    def equal(self, reference: str, statement: str) -> bool | None:
        """What math-verify says of two answers; None: it cannot read the reference.

        Raises:
            RewardFunctionError: it fails by an exception.
        """
        if self._pool is None:
            self._pool = WorkerPool(_make_comparison(), self.timeout, 1)
        (reply,) = self._pool.map([json.dumps([reference, statement])], lambda reply: False)
        if reply.kind in ("raised", "nonsense"):
            raise RewardFunctionError(f"math-verify failed on {statement!r} against {reference!r}:\n{reply.detail}")
        return None if reply.value == _UNREADABLE else reply.value == 1.0

    def __getstate__(self) -> dict[str, Any]:
        """Without the process."""
        return {"timeout": self.timeout, "_pool": None}


def _make_comparison() -> Callable[[], Callable[[str], float]]:
    make_reader, unreadable = reader(), _UNREADABLE

    def make() -> Callable[[str], float]:
        import json

        from math_verify import verify

        read = make_reader()

        def compare(pair: str) -> float:
            reference, statement = json.loads(pair)
            gold = read(reference)
            return float(verify(gold, read(statement), timeout_seconds=None)) if gold else unreadable

        return compare

    return make
