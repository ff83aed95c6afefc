"""How an answer is read off what an algorithm returns."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pyro_llm.answers import answer
from pyro_llm.errors import AllParticlesDeadError, NoWeightsError, StudyConfigError
from pyro_llm.infer import Posterior
from pyro_llm.study.advice import unknown

ReadAnswer = Callable[[str], str | None]

ANSWERS: dict[str, ReadAnswer] = {"answer": answer}
"""From the name in a configuration to the function from a text to its answer."""


def load_answer(name: str) -> ReadAnswer:
    """The function of a name.

    Raises:
        StudyConfigError: there is none.
    """
    if name not in ANSWERS:
        raise StudyConfigError(f"answer: {unknown('way to read an answer', name, ANSWERS)}")
    return ANSWERS[name]


def facts(posterior: Posterior, read: ReadAnswer) -> dict[str, Any]:
    """What a row says of a posterior, by the fields of `Row`; None where there is no such thing.

    Raises:
        AllParticlesDeadError: no run has positive evidence, so that there is no decision.
    """
    decision = posterior.decision(read)
    return {
        "decision": decision,
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
