"""Worker processes that stay, and are replaced when they hang or crash."""

from __future__ import annotations

import os
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from threading import Lock
from typing import Any, NamedTuple

from pyro_llm.errors import RewardError
from pyro_llm.rewards.isolation.worker_process import Reply, WorkerProcess


class _Task(NamedTuple):
    worker: WorkerProcess
    place: int
    deadline: float | None


class WorkerPool:
    """Applies a function to texts in other processes, which are started when first needed.

    They end with the pool: when it is no longer referred to, when the interpreter exits, and those at work when the
    wait for them is interrupted. Calls from several threads take turns.

    Args:
        make: makes the function; it is called once in each process. Sent by value if it is no importable name.
        timeout: seconds that a text may take, or None.
        size: the most processes.

    Raises:
        RewardError: `make` cannot be sent to another process.
    """

    def __init__(self, make: Callable[[], Callable[[str], Any]], timeout: float | None, size: int) -> None:
        import cloudpickle

        try:
            self._make = cloudpickle.dumps(make)
        except Exception as error:
            raise RewardError(
                f"The function of a reward cannot be sent to another process: {error}. It may refer to no open file, "
                "lock or thread; make these inside of it."
            ) from error
        self._timeout, self._size = timeout, size
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._lock = Lock()
        weakref.finalize(self, _end, self._all, os.getpid())

    def map(self, texts: Sequence[str], is_fatal: Callable[[Reply], bool]) -> list[Reply]:
        """What came of each text, in order; texts after the first fatal reply may not have been asked about.

        Args:
            texts: to apply the function to.
            is_fatal: whether a reply makes the others pointless.
        """
        replies: dict[int, Reply] = {}
        waiting, running = deque(enumerate(texts)), dict[Connection, _Task]()
        with self._lock:
            try:
                while waiting or running:
                    while waiting and len(running) < self._size:
                        task = self._begin(*waiting.popleft())
                        running[task.worker.connection] = task
                    for task, reply in self._finished(running):
                        replies[task.place] = reply
                        if is_fatal(reply):
                            waiting.clear()
            finally:
                for task in running.values():  # an interrupt: what they are at is not waited for
                    self._discard(task.worker)
        return [replies[place] for place in sorted(replies)]

    def _begin(self, place: int, text: str) -> _Task:
        worker = self._ready_worker()
        worker.send(text)
        return _Task(worker, place, None if self._timeout is None else time.monotonic() + self._timeout)

    def _ready_worker(self) -> WorkerProcess:
        while self._idle:
            worker = self._idle.pop()
            if worker.alive:
                return worker
            self._discard(worker)
        worker = WorkerProcess(self._make, self._timeout)
        self._all.add(worker)
        return worker

    def _finished(self, running: dict[Connection, _Task]) -> list[tuple[_Task, Reply]]:
        """Tasks that have come to an end, by an answer or by the clock; waits for the first."""
        deadlines = [task.deadline for task in running.values() if task.deadline is not None]
        left = max(min(deadlines) - time.monotonic(), 0.0) if deadlines else None
        answered = wait(list(running), left)
        finished = [(running[connection], running[connection].worker.receive()) for connection in answered]  # type: ignore[index]
        now = time.monotonic()
        for connection, task in running.items():
            if connection not in answered and task.deadline is not None and task.deadline <= now:
                finished.append((task, Reply("timeout", None, f"it took more than {self._timeout:g} s")))
        for task, reply in finished:
            del running[task.worker.connection]
            if reply.kind in ("timeout", "crash"):
                self._discard(task.worker)
            else:
                self._idle.append(task.worker)
        return finished

    def _discard(self, worker: WorkerProcess) -> None:
        worker.kill()
        self._all.discard(worker)


def _end(workers: set[WorkerProcess], master: int) -> None:
    if os.getpid() == master:  # a fork of the master has no say in them
        for worker in workers:
            worker.kill()
