"""The genealogy of a run's particles as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyro_llm.diagnostics.display import shows_answers
from pyro_llm.diagnostics.figure import (
    COLOURS,
    FAINT,
    GREY,
    INK,
    axes_or_new,
    bare,
    colours_by_answer,
    particle_answers,
    say,
)
from pyro_llm.errors import OptionError
from pyro_llm.infer.posterior import Posterior

BEND = np.linspace(0.0, 1.0, 16)
WIDTHS = (0.7, 7.0)
"""In points, of threads that carry none and all of the final weight."""

CROWDED = 150.0
"""Points that the thinnest threads may take up together."""

MAX_COUNTS = 24
FADED = "#BDB6AA"
"""Of answers that have no colour of their own."""


class _Thread(NamedTuple):
    path: NDArray[np.float64]
    weight: float
    colour: str


def check_run(posterior: Posterior, run: int) -> None:
    """Raise OptionError for what is no integer, IndexError for a run that the posterior has not."""
    if isinstance(run, bool) or not isinstance(run, int | np.integer):
        advice = " To write the figure: plot().savefig(path)." if isinstance(run, str | PathLike) else ""
        raise OptionError(f"run={run!r}: give the number of a run, from 0 to {posterior.num_runs - 1}.{advice}")
    if not 0 <= run < posterior.num_runs:
        raise IndexError(f"There is no run {run}: the posterior has {posterior.num_runs}, counted from 0.")


def plot_ancestry(posterior: Posterior, ax: Axes | None = None, run: int = 0) -> Axes:
    """From which particle of each step each particle of the final population descends.

    A thread runs from a slot's ancestor at one step to the slot at the next, faint unless a final particle descends
    from it. Its width shows the final weight of its descendants, its colour their answer (that of most weight; the
    colours are those of `plot_answers`). Dotted verticals mark where the run was resampled.

    Args:
        posterior: what to show.
        ax: where to draw, a new figure by default.
        run: the run to show.

    Raises:
        OptionError: `run` is no integer.
        IndexError: there is no such run.
    """
    check_run(posterior, run)
    ax = axes_or_new(ax, 8, 5)
    bare(ax)
    stats, size = posterior.stats, posterior.num_particles
    which = f" of run {run}" if posterior.num_runs > 1 else ""
    ax.set(xlabel="step", ylabel="particle")
    heading: dict[str, Any] = {"loc": "left", "fontsize": "medium", "color": INK}
    ax.set_title(f"Ancestry{which}", **heading)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    if not stats.num_steps:
        say(ax, "no observed sites")
        return ax

    dead, alive = _threads(posterior, run)
    ax.add_collection(LineCollection([thread.path for thread in dead], colors=FAINT, linewidths=0.5, zorder=1))
    low, high = min(WIDTHS[0], CROWDED / posterior.num_particles), WIDTHS[1]
    ax.add_collection(
        LineCollection(
            [thread.path for thread in alive],
            colors=[thread.colour for thread in alive],
            linewidths=[low + (high - low) * thread.weight**0.5 for thread in alive],
            capstyle="butt",
            zorder=2,
        )
    )
    for resampled in np.flatnonzero(stats.resampled[run]):
        ax.axvline(resampled + 0.5, color=GREY, linestyle=":", linewidth=1.2, zorder=3)
    every = -(-stats.num_steps // MAX_COUNTS)
    for step in range(0, stats.num_steps, every):
        ax.annotate(
            str(stats.unique_ancestors[run, step]), (step, 1), (0, 3), xycoords=("data", "axes fraction"),
            textcoords="offset points", ha="center", color=GREY, fontsize="small",
        )  # fmt: skip
    ax.set_title(f"Ancestry{which}; above, the particles of each step that have descendants", **heading, pad=18)
    ax.set_xlim(-0.2, stats.num_steps - 0.7)
    ax.set_ylim(size - 0.5, -0.5)
    return ax


def _generations(posterior: Posterior, run: int) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """First and last step of each stretch without resampling, and the ancestors of its slots in the one before."""
    stats = posterior.stats
    ends = [*map(int, np.flatnonzero(stats.resampled[run, :-1])), stats.num_steps - 1]
    first, ancestors = 0, np.arange(posterior.num_particles)
    for last in ends:
        yield first, last, ancestors
        first, ancestors = last + 1, stats.ancestors[run, last]


def _threads(posterior: Posterior, run: int) -> tuple[list[_Thread], list[_Thread]]:
    """The threads that died out, and those that survived, the heaviest last."""
    if shows_answers(posterior):
        colours, answers = colours_by_answer(posterior), particle_answers(posterior)[run]
    else:
        colours, answers = {None: COLOURS[0]}, [None] * posterior.num_particles
    weights = [1 / posterior.num_particles] * posterior.num_particles
    if not posterior.is_search:
        weights = posterior.log_weights[run].exp().nan_to_num().tolist()
    dead, alive = [], []
    for first, last, ancestors in _generations(posterior, run):
        carried = _carried(posterior.stats.lineages[run, last], answers, weights)
        for slot, ancestor in enumerate(ancestors.tolist()):
            path = _path(first, last, ancestor, slot)
            if shares := carried.get(slot):
                main_answer = max(shares, key=shares.__getitem__)
                alive.append(_Thread(path, sum(shares.values()), colours.get(main_answer, FADED)))
            else:
                dead.append(_Thread(path, 0.0, FAINT))
    return dead, sorted(alive, key=lambda thread: thread.weight)


def _path(first: int, last: int, ancestor: int, slot: int) -> NDArray[np.float64]:
    """The curve from an ancestor to a slot, and level on from the first to the last step. `[points, 2]`."""
    if first == 0:
        return np.array([[0, slot], [last + 0.25, slot]])
    rise = BEND**2 * (3 - 2 * BEND)
    bend = np.stack([first - 0.75 + 0.5 * BEND, ancestor + (slot - ancestor) * rise], -1)
    return np.concatenate([bend, [[last + 0.25, slot]]])


def _carried(slots: NDArray[np.int64], answers: Sequence[Any], weights: Sequence[float]) -> dict[int, dict[Any, float]]:
    """By slot at a step, the final weight of its descendants by answer; slots without any are absent."""
    carried: dict[int, dict[Any, float]] = defaultdict(lambda: defaultdict(float))
    for slot, value, weight in zip(slots.tolist(), answers, weights, strict=True):
        carried[slot][value] += weight
    return carried
