"""Where requests for a service are handed in, and its turns: taken here, or in a thread beside all else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from copy import copy
from threading import Event, Thread
from typing import Any

from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.suspended import Suspendable
from pyro_llm.rendezvous import Request, Service


class Turn:
    """A turn of a service in a thread of its own.

    Args:
        service: nobody else uses it meanwhile.
        ended: set when the turn has ended.

    Attributes:
        has_ended: whether it has.
        error: what the service raised, if it did.
    """

    def __init__(self, service: Service[Any], ended: Event) -> None:
        self.has_ended = False
        self.error: Exception | None = None
        self._service, self._ended = service, ended
        # A daemon: a server that does not answer must not keep an interrupted process from ending.
        Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        try:
            self._service.advance()
        except Exception as error:
            self.error = error
        finally:
            self.has_ended = True
            self._ended.set()


class Desk:
    """Where the requests for one service are handed in.

    Args:
        ended: set when a turn that is taken beside has ended.
    """

    def __init__(self, ended: Event) -> None:
        self._ended = ended
        self._service: Service[Any] | None = None
        self._create: Callable[[], Service[Any]]
        self._waiting: dict[Request[Any], Suspendable[Posterior]] = {}
        self._new: deque[Request[Any]] = deque()  # not admitted yet
        self._turn: Turn | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    @property
    def is_beside(self) -> bool:
        """Whether turns are taken in a thread of their own."""
        return bool(getattr(self._service, "beside", False))

    @property
    def is_spent(self) -> bool:
        """Whether it has done all that it will ever do."""
        return self.is_idle and bool(getattr(self._service, "single", False))

    def take(self, run: Suspendable[Posterior]) -> None:
        """Hand in what a run has asked for."""
        assert run.asked is not None
        self._create = run.asked.create
        if self._service is None:
            self._service = self._create()
        self._waiting[run.asked.request] = run
        self._new.append(run.asked.request)

    def begin(self) -> None:
        """Begin the next turn, if it is one to be taken beside all else and the last has ended."""
        if self.is_beside and self._waiting and self._turn is None:
            assert self._service is not None
            self._admit(self._service)
            self._turn = Turn(self._service, self._ended)

    def advance(self) -> list[Suspendable[Posterior]]:
        """Take a turn, or look after the one that is taken beside; the runs whose requests are done."""
        if self._service is None or not self._waiting:
            return []
        error: Exception | None = None
        if self._turn is not None:
            if not self._turn.has_ended:
                return []
            error, self._turn = self._turn.error, None
        elif not self.is_beside:
            self._admit(self._service)
            try:
                self._service.advance()
            except Exception as raised:
                error = raised
        if error is not None:
            self._fail(error)
        done = [request for request in self._waiting if request.done]
        return [self._waiting.pop(request) for request in done]

    def _admit(self, service: Service[Any]) -> None:
        while self._new:
            service.admit(self._new.popleft())

    def _fail(self, error: Exception) -> None:
        """Fail all requests that the service has; it is in whatever state."""
        unfinished = [request for request in self._waiting if not request.done and request not in self._new]
        for request in unfinished:
            request.fail(error if len(unfinished) == 1 else own_error(error))
        self._service = self._create() if self._new else None


def own_error(error: Exception) -> Exception:
    """An error of the same kind, raised from this one, for one of several runs: each has a traceback of its own."""
    try:
        mine = copy(error)
    except Exception:  # one that cannot be made from its arguments
        mine = RuntimeError(f"{type(error).__name__}: {error}")
    mine.__cause__ = error
    return mine
