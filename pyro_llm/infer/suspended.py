"""An execution of Python that can be suspended in the middle, whatever it has changed for the whole process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass
from threading import Event, Thread, get_ident
from typing import Any, Generic, TypeVar

from pyro_llm.handlers.global_state import GlobalState
from pyro_llm.rendezvous import Request, Service, conducted_by

Result = TypeVar("Result")

_PATIENCE = 0.5  # seconds until this thread looks for a signal that another one was sent


class Cancelled(SystemExit):
    """Raised within an execution to end it. (Not an `Exception`, and threads end on a `SystemExit` without a word.)"""


@dataclass(frozen=True)
class Asked:
    """What an execution waits for: a request, and the service that is to work on it."""

    key: Hashable
    create: Callable[[], Service[Any]]
    request: Request[Any]


class Suspendable(Generic[Result]):
    """A function executed in a thread of its own, which runs only while whoever calls `resume` waits for it.

    So of all these threads and the one that resumes them exactly one runs at a time, and each finds Pyro's handlers and
    the random number generators as it left them. The execution is suspended when it asks for a service
    (`pyro_llm.rendezvous`), and begins with the state and the context variables of where this object is made.

    Args:
        function: what to execute.

    Attributes:
        asked: what the execution waits for; None before the first `resume` and after its end.
        ended: whether it has ended.
        error: what it raised, if it did.
    """

    def __init__(self, function: Callable[[], Result]) -> None:
        self.asked: Asked | None = None
        self.ended = False
        self.error: BaseException | None = None
        self._function = function
        self._result: Result | None = None
        self._state = GlobalState.now()
        self._cancelled = False
        self._inside, self._outside = Event(), Event()
        # A daemon, so that one which cannot be cancelled (it is in foreign code) does not keep the process from ending.
        self._thread = Thread(target=copy_context().run, args=(self._execute,), daemon=True)

    def resume(self) -> None:
        """Let it go on until it asks for something or ends; what interrupts this wait cancels it."""
        outside = GlobalState.now()
        self._state.restore()
        try:
            self._switch()
        finally:
            self._state = GlobalState.now()
            outside.restore()

    def cancel(self) -> None:
        """End it: `Cancelled` is raised where it waits, and it is waited for until it has cleaned up."""
        self._cancelled = True
        while self._thread.ident is not None and not self.ended:
            self.resume()

    def result(self) -> Result:
        """What the function returned."""
        assert self.ended and self.error is None
        return self._result  # type: ignore[return-value]

    def serve(self, key: Hashable, create: Callable[[], Service[Any]], request: Request[Any]) -> bool:
        """Suspend the execution until its request is done; see `Conductor`."""
        if get_ident() != self._thread.ident:
            return False
        if not self._cancelled:
            self.asked = Asked(key, create, request)
            self._outside.set()
            self._inside.wait()
            self._inside.clear()
            self.asked = None
        if self._cancelled:
            raise Cancelled
        return True

    def _execute(self) -> None:
        try:
            with conducted_by(self):
                self._result = self._function()
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._outside.set()

    def _switch(self) -> None:
        try:
            if self._thread.ident is None:
                self._thread.start()
            else:
                self._inside.set()
            while not self._outside.wait(timeout=_PATIENCE):
                pass
            self._outside.clear()
        except BaseException:  # the interrupt key: pressed while the execution runs, it comes to the main thread
            self._cancelled = True
            if self._thread.ident is not None:
                ident, error = ctypes.c_ulong(self._thread.ident), ctypes.py_object(Cancelled)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
                self._inside.set()
                self._thread.join()
            raise
