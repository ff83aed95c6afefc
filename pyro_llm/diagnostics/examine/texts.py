"""Texts: whether they were cut off, came to an end, go round in circles, and how many answers they state."""

from __future__ import annotations

import math

import numpy as np

from pyro_llm.answers import answer
from pyro_llm.diagnostics.examine.examination import Examination

LONGEST_UNIT = 400
"""Characters of the longest repeated piece that is looked for."""

REPETITIONS = 3
REPEATED = 24
"""Times, and characters in all, that a text ends in the same piece if it goes round in circles."""


def examine_texts(case: Examination) -> None:
    """Findings `truncated-steps`, `looping-texts` and `unfinished-texts`."""
    _truncated(case)
    if not case.posterior.has_texts:
        return
    written, shares = case.posterior.written, case.shares
    each = shares if written.single else shares.reshape(*shares.shape, *[1] * (written.texts.ndim - 2))
    weights = np.broadcast_to(each, written.texts.shape) / (written.texts.size / shares.size)
    circles = {text: loops(text) for text in dict.fromkeys(written.texts.flat)}
    looping = np.array([circles[text] for text in written.texts.flat]).reshape(written.texts.shape)
    if written.finished is not None:
        looping &= ~written.finished  # a text that has come to its end has left the circle
    share = case.figures["looping texts, share"] = float(weights[looping].sum())
    if share > case.thresholds.looping_texts:
        _find_loops(case, share)
    if written.finished is not None:
        unfinished = float(weights[~written.finished].sum())
        _unfinished(case, unfinished, looped=share > case.thresholds.looping_texts)
    if written.single:
        stated = [value for text in written.texts[shares > 0] if (value := answer(text)) is not None]
        if stated:
            case.figures["distinct answers"] = len(set(stated))


def loops(text: str) -> bool:
    """Whether a text ends in the same piece three times in a row, and in 24 characters at least of such.

    >>> loops("so 1 + 1 = 2, so 1 + 1 = 2, so 1 + 1 = 2, "), loops("1, 2, 3, 4, 5, 6, 7, 8, 9")
    (True, False)
    """
    for length in range(1, min(LONGEST_UNIT, len(text) // REPETITIONS) + 1):
        times = max(REPETITIONS, math.ceil(REPEATED / length))
        unit = text[-length:]
        if not unit.isspace() and text.endswith(unit * times):
            return True
    return False


def _truncated(case: Examination) -> None:
    cost, at_most = case.posterior.cost, case.thresholds.truncated_steps
    if not cost.steps_sampled:
        return
    share = case.figures["truncated steps, share"] = cost.steps_truncated / cost.steps_sampled
    if share > at_most:
        case.find(
            "truncated-steps", "warning", share, at_most,
            f"{share:.0%} of the steps were cut off at max_tokens, before their stop string: rewards judge half "
            "sentences, and the next step starts in the middle of one.",
            "Raise max_tokens, or choose a stop string that the model writes.",
        )  # fmt: skip


def _find_loops(case: Examination, share: float) -> None:
    case.find(
        "looping-texts", "warning" if share < 0.5 else "serious", share, case.thresholds.looping_texts,
        f"{share:.0%} of the posterior goes round in circles: the same words three times and more at the end.",
        "Raise the temperature (low ones loop, as does top_k=1), lower max_steps, or let a reward reject repetition.",
    )  # fmt: skip


def _unfinished(case: Examination, share: float, looped: bool) -> None:
    case.figures["unfinished texts, share"] = share
    at_most = case.thresholds.unfinished_texts
    if share <= at_most or looped:
        return
    item = case.posterior.stopped_by
    if item == "reward":  # which is a finding of its own
        return
    if item is not None:
        case.find(
            "unfinished-texts", "warning", share, at_most,
            f"{share:.0%} of the posterior are texts that were not finished when the budget was spent ({item}).",
            "Raise the budget, or take fewer particles.",
        )  # fmt: skip
        return
    # A program that writes so many steps and no more finishes no text at all, and may be meant so.
    meant = share > 1 - 1e-9 and case.posterior.cost.steps_truncated == 0
    case.find(
        "unfinished-texts", "note" if meant else "warning", share, at_most,
        f"{share:.0%} of the posterior are texts that had not come to an end when the program did.",
        "Raise max_steps or max_tokens. If the program is to write so much and no more, nothing is wrong."
        if meant else "Raise max_steps or max_tokens, or lower the temperature: hot texts ramble.",
    )  # fmt: skip
