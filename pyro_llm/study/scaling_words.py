"""A scaling rate as a sentence."""

from __future__ import annotations

import math

from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.scaling import Range, ScalingRate
from pyro_llm.study.words import counted


def rate_in_words(rate: ScalingRate) -> str:
    """What a scaling rate tells, or why it tells nothing, in one sentence.

    Example:
        >>> near, far = Range(32.0, 32.0), Range(64.0, float("inf"))
        >>> bound = Range(0.0, 0.5)
        >>> print(rate_in_words(ScalingRate("beam search", "PF", "generations", 0.844, far, near, bound, bound, 1.0)))
        beam search does not reach the accuracy 0.844 with 64 generations; PF does with 32.
    """
    own, other, accuracy = rate.budget, rate.reference_budget, f"the accuracy {rate.accuracy:.3f}"
    if _is_never(own):
        if _is_never(other):
            return (
                f"Scaling rate of {rate.algorithm}: it cannot be told, as neither reaches {accuracy}: not "
                f"{rate.algorithm} with {_amount(own.low, rate.kind)}, nor {rate.reference} with {_number(other.low)}."
            )
        sometimes = ""
        if rate.not_reached < 0.995:  # else the share would read 0 %
            sometimes = f", but would on {1 - rate.not_reached:.0%} of resampled sets of problems"
        return (
            f"{rate.algorithm} does not reach {accuracy} with {_amount(own.low, rate.kind)}{sometimes}; "
            f"{rate.reference} does with {_number(other.high)}."
        )
    if _is_first(own) and _is_first(other):
        smallest = _amount(own.high, rate.kind)
        if own != other:
            smallest += f" and {_number(other.high)}"
        return (
            f"Scaling rate of {rate.algorithm}: it cannot be told, as both reach {accuracy} at the smallest budget, "
            f"{smallest}."
        )
    needs = f"{rate.algorithm} needs {_needed(own, rate.kind)} for {accuracy}, {rate.reference} {_needed(other)}"
    many = "as many" if rate.ratio == Range(1.0, 1.0) else f"{rate.ratio} times as many"
    told = f"Scaling rate of {rate.algorithm}: {needs.rstrip(',')}, which is {many}"
    if rate.agreed:
        return f"{told}; there they agree on every one of the {rate.agreed} problems, which tells no interval."
    high = "∞" if math.isinf(rate.interval.high) else f"{rate.interval.high:.3g}"
    told += f" (95 % interval {rate.interval.low:.3g} to {high}"
    if rate.interval.low < 1 < rate.interval.high:
        told += ", which does not tell which of them needs more"
    if rate.reference_least is not None:
        told += f"); {rate.reference} is right as often with {_needed(rate.reference_least).rstrip(',')}"
        return f"{told}."
    return f"{told})."


def _is_never(budget: Range) -> bool:
    return math.isinf(budget.high)


def _is_first(budget: Range) -> bool:
    return budget.low <= 0


def _needed(budget: Range, kind: str | None = None) -> str:
    if _is_never(budget):
        return f"more than {_number(budget.low)}"
    size = _number(budget.high) if kind is None else _amount(budget.high, kind)
    return f"at most {size}, its smallest budget," if _is_first(budget) else size


def _amount(value: float, kind: str) -> str:
    """A size of a budget with its unit."""
    return f"{_number(value)} {counted(float(f'{value:.3g}'), COST_KINDS[kind]).split(' ', 1)[1]}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
