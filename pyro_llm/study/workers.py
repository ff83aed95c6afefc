"""Processes that work on a study. One process alone writes the rows: the one that these report to."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from pyro_llm.errors import PyroLLMError, StudyWorkerError
from pyro_llm.study.problem import Problem
from pyro_llm.study.rows import Row
from pyro_llm.study.work import Task, blank_row, do, failed, one_thread


def rows_of(tasks: Iterator[Task], workers: int) -> Generator[Row]:
    """Make the runs of tasks; a row as each ends.

    Args:
        tasks: taken one by one, as there is somebody to work on them.
        workers: processes; 1: this one, without another.

    Raises:
        StudyWorkerError: a process ended before it had done anything.
        PyroLLMError: a model cannot be loaded.
    """
    if workers > 1:
        yield from _rows_of_processes(tasks, workers)
        return
    with one_thread():
        for task in tasks:
            yield from do(task)


def _rows_of_processes(tasks: Iterator[Task], workers: int) -> Generator[Row]:
    crew: list[_Worker] = []
    try:
        for _, task in zip(range(workers), tasks, strict=False):
            crew.append(_Worker(task))
        while crew:
            for connection in wait([worker.connection for worker in crew]):
                worker = next(one for one in crew if one.connection is connection)
                yield from worker.report()
                if worker.task is not None:
                    continue
                task_to_do = next(tasks, None)
                if task_to_do is None or worker.has_ended:
                    crew.remove(worker)
                    worker.end()
                if task_to_do is not None and worker.has_ended:
                    crew.append(_Worker(task_to_do))
                elif task_to_do is not None:
                    worker.give(task_to_do)
    finally:
        for worker in crew:
            worker.end()


class _Worker:
    """A process, seen from the one that it reports to.

    Attributes:
        connection: to it.
        task: what it works on.
        has_ended: whether it is gone.
    """

    def __init__(self, task: Task) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="pyro-llm bench")
        self._process.start()
        theirs.close()
        self.task: Task | None = None
        self.has_ended = False
        self._has_reported = False
        self._left: dict[str, Problem] = {}
        self.give(task)

    def give(self, task: Task) -> None:
        """Have it work on a task."""
        self.task, self._left = task, {problem.source_id: problem for problem in task.problems}
        with suppress(OSError):  # it has ended; reading what it reports says so
            self.connection.send(task)

    def report(self) -> Iterator[Row]:
        """What it has to say: a row, or that the task is done. Of one that died, rows that say so."""
        assert self.task is not None
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            yield from self._died(self.task)
            return
        self._has_reported = True
        if isinstance(message, BaseException):
            raise message
        if message is None:
            self.task = None
            return
        del self._left[message.problem]
        yield message

    def _died(self, task: Task) -> Iterator[Row]:
        self._process.join()
        how = f"the process that worked on it ended with exit code {self._process.exitcode}"
        if not self._has_reported:
            raise StudyWorkerError(
                f"A process of the study ended with exit code {self._process.exitcode} before it had done anything. "
                "Minus 9 is mostly a lack of memory: use fewer workers. A script that starts a study must do so under "
                "`if __name__ == '__main__':`, as each process imports it."
            )
        self.has_ended, self.task = True, None
        for problem in self._left.values():
            yield Row(**blank_row(task.cell, problem) | failed(StudyWorkerError(how)))

    def end(self) -> None:
        """End it, whatever it does."""
        self._process.terminate()
        self._process.join()
        self.connection.close()


def _serve(connection: Connection) -> None:
    """Work on the tasks that come, until none can."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; the parent ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with one_thread():
        while True:
            try:
                task = connection.recv()
            except (EOFError, OSError):
                return
            connection.send(_work(task, connection))


def _work(task: Task, connection: Connection) -> Any:
    """Report the rows of a task; what to report after them, None or an error."""
    try:
        for row in do(task):
            connection.send(row)
    except PyroLLMError as error:
        return error
    except Exception as error:
        return StudyWorkerError(f"{type(error).__name__}: {error}")
    return None


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
