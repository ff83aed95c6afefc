"""How an answer is read off what an algorithm returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from pyro_llm.answers import answer
from pyro_llm.errors import AllParticlesDeadError, NoWeightsError, StudyConfigError
from pyro_llm.infer import Posterior
from pyro_llm.study.advice import unknown
from pyro_llm.study.deciding import LastRewards
from pyro_llm.study.math_answers import MathAnswers

ReadAnswer = Callable[[str], Hashable | None]
"""From a text to its answer, which as a text (`str`) is what is graded; None: it states none."""

ANSWERS: dict[str, Callable[[], ReadAnswer]] = {"answer": lambda: answer, "math": MathAnswers}
"""From the name in a configuration to what makes the function from a text to its answer."""


@cache
def load_answer(name: str) -> ReadAnswer:
    """The function of a name; in a process it is made once.

    Raises:
        StudyConfigError: there is none.
        MissingExtraError: it needs a package that is not installed.
    """
    if name not in ANSWERS:
        raise StudyConfigError(f"answer: {unknown('way to read an answer', name, ANSWERS)}")
    return ANSWERS[name]()


def facts(posterior: Posterior, read: ReadAnswer, rewards: LastRewards | None = None) -> dict[str, Any]:
    """What a row says of a posterior, by the fields of `Row`; None where there is no such thing.

    Args:
        posterior: of an algorithm.
        read: from a text to its answer.
        rewards: those by the last of which the answer is chosen; None: it is the algorithm's own decision.

    Raises:
        AllParticlesDeadError: no run has positive evidence, so that there is no decision.
    """
    decision = posterior.decision(read) if rewards is None else rewards.decision(posterior, read)
    return {
        "decision": None if decision is None else str(decision),
        "probability": None if posterior.is_search else posterior.marginal(read).get(decision),
        "ess": _or_none(lambda: float(posterior.ess().mean())) if posterior.chains is None else None,
        "log_evidence": _or_none(lambda: posterior.pooled_log_evidence().estimate),
        "stopped_by": getattr(posterior, "stopped_by", None),
    }


def _or_none(compute: Callable[[], float]) -> float | None:
    try:
        value = compute()
    except (AllParticlesDeadError, NoWeightsError):
        return None
    return value if math.isfinite(value) else None
