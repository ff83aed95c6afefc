"""How wall time grows with particles, steps and the length of the prompt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

from benchmarks.runtime.bare_loop import bare_work
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import smc_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work, now
from benchmarks.runtime.workload import Workload

WORDS = {"particles": "particles", "steps": "steps", "prompt_length": "tokens of the prompt"}


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log time over log size, by least squares: 1 is linear growth.

    >>> exponent([1, 2, 4], [3.0, 6.0, 12.0])
    1.0
    """
    x, y = [math.log(size) for size in sizes], [math.log(second) for second in seconds]
    centre = sum(x) / len(x)
    return sum((a - centre) * b for a, b in zip(x, y, strict=True)) / sum((a - centre) ** 2 for a in x)


def compare(plan: Plan) -> Comparison:
    """Exponents fitted over the whole range of each size, the others held fixed.

    Beside the steps, the bare loop: a text attends to all that it has written before, in any implementation.
    """
    fixed = plan.growth.fixed
    figures, details, work = [], {}, {}
    smc_work(fixed)  # warm
    for name, words in WORDS.items():
        sizes = getattr(plan.growth, name)
        sweeps: list[list[float]] = []
        bare: list[list[float]] = []
        for repeat in range(plan.repeats):
            plan.tick(f"{words}, {repeat + 1} of {plan.repeats}")
            times, bare_times = {}, {}
            for size in sizes[:: 1 if repeat % 2 == 0 else -1]:
                times[size], work[f"{name}={size}"] = _timed(smc_work, fixed.with_(**{name: size}))
                if name == "steps":
                    bare_times[size], _ = _timed(bare_work, fixed.with_(steps=size))
            sweeps.append([times[size] for size in sizes])
            bare.append([bare_times[size] for size in sizes if size in bare_times])
        middle = [median(times) for times in zip(*sweeps, strict=True)]
        last = math.log(middle[-1] / middle[-2]) / math.log(sizes[-1] / sizes[-2])
        held = fixed.describe().split(", ")
        del held[
            list(WORDS).index({"particles": "particles", "prompt_length": "steps", "steps": "prompt_length"}[name])
        ]
        figures.append(
            Figure(
                f"Growth of wall time with {words}, {sizes[0]} to {sizes[-1]}: exponent",
                [exponent(sizes, times) for times in sweeps],
                target=1.0,
                bound="at most",
                unit="",
            )
        )
        details[name] = {"sizes": list(sizes), "seconds": sweeps, "exponent_at_the_end": last, "fixed": held}
        if name == "steps":
            details[name] |= {"bare_seconds": bare, "bare_exponent": median(exponent(sizes, times) for times in bare)}
    return Comparison(figures, work=work, details=details)


def _timed(contender: Callable[[Workload], Work], workload: Workload) -> tuple[float, Work]:
    started = now(workload.device)
    work = contender(workload)
    seconds = now(workload.device) - started
    if work["tokens_sampled"] != workload.tokens:
        raise AssertionError(f"{work['tokens_sampled']} tokens were sampled, not {workload.tokens}")
    return seconds, work
