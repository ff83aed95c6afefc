"""Several runs of an algorithm at a time, their language models and rewards serving all of them in common batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.suspended import Suspendable
from pyro_llm.infer.turns import Desk

_PATIENCE = 0.5  # seconds until this thread looks for a signal that was sent


@dataclass(frozen=True)
class Outcome:
    """What one of several runs came to.

    Attributes:
        index: of its problem, from 0.
        problem: what the program was given.
        posterior: the result, None if the run failed.
        error: what the run raised, None if it did not.
    """

    index: int
    problem: Any
    posterior: Posterior | None
    error: Exception | None = None


@dataclass(frozen=True)
class Task:
    """A run that is to be made: its problem, and what makes it."""

    index: int
    problem: Any
    run: Callable[[], Posterior]


def run_concurrently(tasks: Iterator[Task], concurrent: int) -> Iterator[Outcome]:
    """Make runs, so many at a time, and give what each comes to as soon as it is there.

    One run is executed at a time. When all wait for a model, each service works on what they ask of it: a language
    model draws one token for all, say. A run whose request is done goes on at once, and its next request joins those
    that are still worked on. Services that may work beside the others (a reward model on a GPU, one on another machine)
    begin first, and are waited for when nothing else is left to do.

    An error of a run is in its outcome. One of `tasks` is raised when the runs in progress have come to their end.
    Whatever ends this generator, no run goes on after it; a turn that a service takes beside comes to its own end.
    """
    in_progress: dict[Suspendable[Posterior], Task] = {}
    ready: deque[Suspendable[Posterior]] = deque()
    desks: dict[Hashable, Desk] = {}
    ended = Event()
    failure: Exception | None = None
    exhausted = False
    try:
        while True:
            while not exhausted and len(in_progress) < concurrent:
                try:
                    task = next(tasks)
                except StopIteration:
                    exhausted = True
                except Exception as error:
                    exhausted, failure = True, error
                else:
                    run = Suspendable(task.run)
                    in_progress[run] = task
                    ready.append(run)
            if not in_progress:
                break
            if not ready:
                ended.clear()
                for desk in desks.values():
                    desk.begin()
                ready.extend(run for desk in desks.values() for run in desk.advance())
                if not ready and all(desk.is_idle or desk.is_beside for desk in desks.values()):
                    ended.wait(_PATIENCE)
                continue
            run = ready.popleft()
            run.resume()
            if run.asked is not None:
                desks = {key: desk for key, desk in desks.items() if not desk.is_spent}
                desks.setdefault(run.asked.key, Desk(ended)).take(run)
                continue
            yield _outcome(in_progress.pop(run), run)
    finally:
        for run in in_progress:
            run.cancel()
    if failure is not None:
        raise failure


def _outcome(task: Task, run: Suspendable[Posterior]) -> Outcome:
    if run.error is None:
        return Outcome(task.index, task.problem, run.result())
    if not isinstance(run.error, Exception):
        raise run.error
    return Outcome(task.index, task.problem, None, run.error)
