"""How a budget in generations is divided among an algorithm's sizes, whose product it is.

Particle Gibbs spends a little less: from its second iteration on, the reference is one of the N particles and is not
generated anew, so that T iterations generate N + (T - 1)(N - 1) texts, T - 1 fewer than the budget. Cost is what is
counted, and tables of studies show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyro_llm.errors import StudyConfigError
from pyro_llm.study.words import are, counted

SIZES = ("num_particles", "num_runs", "num_chains", "num_iterations")
"""Options whose product, iterations of warm-up and rungs of a ladder counted too, is the budget in generations."""


class DoesNotFit(Exception):
    """An algorithm cannot spend a budget of this size exactly."""


def sizes_for(
    generations: int, sizes: Sequence[str], fixed: Mapping[str, Any], options: Mapping[str, Any], warmup: int = 0
) -> dict[str, Any]:
    """The sizes with which an algorithm makes so many generations, or (references being kept) a few less.

    One size is free: the iterations if the particles are fixed, else the particles, else the runs or chains; those
    that are neither free nor fixed are 1.

    Args:
        generations: the budget.
        sizes: those that the algorithm has.
        fixed: those that are given. Of an algorithm with iterations, `num_particles` may be a list, the proportions of
            its iterations: it is scaled to the budget.
        options: the others; of a ladder, the number of rungs multiplies the generations too.
        warmup: iterations that are made before those that are counted.

    Raises:
        DoesNotFit: there are no such sizes.
        StudyConfigError: neither the particles nor the iterations are fixed, and there are both.

    Examples:
        >>> sizes_for(64, ["num_particles", "num_runs"], {}, {})
        {'num_particles': 64}
        >>> sizes_for(64, ["num_particles", "num_iterations"], {"num_particles": 16}, {}, warmup=1)
        {'num_particles': 16, 'num_iterations': 3}
        >>> sizes_for(64, ["num_particles", "num_iterations"], {"num_particles": [2, 1, 1]}, {})
        {'num_particles': [32, 16, 16], 'num_iterations': 3}
    """
    free = _free(sizes, fixed)
    schedule = fixed.get("num_particles")
    if isinstance(schedule, Sequence):
        return _scheduled(generations, schedule, sizes, fixed, options, warmup)
    found: dict[str, Any] = dict(fixed)
    others = _rungs(options)
    for name, size in fixed.items():
        others *= size + (warmup if name == "num_iterations" else 0)
    if free is None:
        if others != generations:
            raise DoesNotFit(f"it makes {counted(others, 'generations')} with what is fixed")
        return found
    factor = generations // others
    amount = f"{counted(generations, 'generations')} {are(generations)}"
    if factor == 0:
        raise DoesNotFit(f"{amount} fewer than the {others} that are fixed")
    if factor * others != generations:
        raise DoesNotFit(f"{amount} no multiple of the {others} that are fixed")
    found[free] = factor - (warmup if free == "num_iterations" else 0)
    if found[free] < 1:
        raise DoesNotFit(
            f"{amount} {counted(factor, 'iterations')} of {others}, and {warmup} {are(warmup)} warm-up: none is left; "
            f"it takes {(warmup + 1) * others} or more"
        )
    return found


def _scheduled(
    generations: int,
    schedule: Sequence[int],
    sizes: Sequence[str],
    fixed: Mapping[str, Any],
    options: Mapping[str, Any],
    warmup: int,
) -> dict[str, Any]:
    """The same where the iterations have particles in the proportions of a schedule, the budget being their sum."""
    if "num_iterations" not in sizes or "num_iterations" in fixed or len(schedule) <= warmup:
        raise StudyConfigError(
            f"split: num_particles: {list(schedule)}: a schedule is of an algorithm with iterations, has one number "
            f"for each of them, and leaves num_iterations to it; {warmup} of them are warm-up."
        )
    others = _rungs(options)
    for name, size in fixed.items():
        others *= 1 if name == "num_particles" else size
    scale, rest = divmod(generations, sum(schedule) * others)
    if rest or not scale:
        raise DoesNotFit(
            f"{counted(generations, 'generations')} {are(generations)} no multiple of the "
            f"{sum(schedule) * others} that the schedule makes"
        )
    kept = {name: size for name, size in fixed.items() if name != "num_particles"}
    scaled = [scale * size for size in schedule]
    return {**kept, "num_particles": scaled, "num_iterations": len(schedule) - warmup}


def _free(sizes: Sequence[str], fixed: Mapping[str, int]) -> str | None:
    if "num_iterations" in sizes:
        if "num_particles" not in fixed and "num_iterations" not in fixed:
            raise StudyConfigError(
                "say how a budget is divided between particles and iterations: split: {num_particles: 16} gives the "
                "rest to iterations, split: {num_iterations: 4} to particles."
            )
        if "num_iterations" not in fixed:
            return "num_iterations"
    return next((name for name in sizes if name not in fixed), None)


def _rungs(options: Mapping[str, Any]) -> int:
    temperatures = options.get("inverse_temperatures")
    if isinstance(temperatures, Sequence):
        return len(temperatures)
    rungs = options.get("num_rungs")
    return rungs if isinstance(rungs, int) else 1


def warmup_of(parameters: Mapping[str, Any], options: Mapping[str, Any]) -> int:
    """The iterations of warm-up, as the options say or by default; 0 where an algorithm has none."""
    if "warmup" not in parameters:
        return 0
    warmup = options.get("warmup", parameters["warmup"].default)
    return warmup if isinstance(warmup, int) and not isinstance(warmup, bool) and warmup >= 0 else 0
