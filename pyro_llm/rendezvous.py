"""Where the requests of several runs meet, so that one batch of a model serves them all.

A run that needs a model calls `serve`. Whoever executes several runs at a time conducts them: it suspends the run, lets
others go on until they need a model too, and has the service work for all of them. Where nobody conducts, a request is
served at once, alone. So who conducts (`pyro_llm.infer`) knows no language model, and who serves (`pyro_llm.lm`,
`pyro_llm.rewards`) knows of no other run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, Generic, Protocol, TypeVar, cast

Answer = TypeVar("Answer")


class Request(Generic[Answer]):
    """What a run asks of a service; subclasses add what that is.

    Attributes:
        context: the context of the run: whatever the service does for this request alone it does in it, so that the
            run's scope is found (`pyro_llm.run_scope`).
        done: whether there is an answer, or an error.
    """

    def __init__(self) -> None:
        self.context = copy_context()
        self.done = False
        self._answer: Answer | None = None
        self._error: BaseException | None = None

    def settle(self, answer: Answer) -> None:
        """Give the answer."""
        self._answer, self.done = answer, True

    def fail(self, error: BaseException) -> None:
        """Say why there is none; the run that asked gets this error raised."""
        self._error, self.done = error, True

    def result(self) -> Answer:
        """The answer; raises the error if there is one instead."""
        if self._error is not None:
            raise self._error
        return cast(Answer, self._answer)


AnyRequest = TypeVar("AnyRequest", bound=Request[Any], contravariant=True)


class Service(Protocol[AnyRequest]):
    """Works on several requests at a time.

    A service that has an attribute `beside`, and it is true, takes its turns in a thread of its own, while runs and
    other services go on: it must share nothing with them, the random number generators of the process included. With
    `single` true too it is for one request, and forgotten after it.
    """

    def admit(self, request: AnyRequest) -> None:
        """Take a request, to be worked on from the next turn on."""
        ...

    def advance(self) -> None:
        """Do the next piece of work for all requests that are not done; settles or fails those that get done by it.

        An error that it raises is one of all requests that are not done, and it is not called again.
        """
        ...


class Conductor(Protocol):
    """Suspends the run in progress until its request is done."""

    def serve(self, key: Hashable, create: Callable[[], Service[Any]], request: Request[Any]) -> bool:
        """Have a request worked on by the service of a key, which `create` makes when it is first asked for.

        Returns:
            Whether it has been done; False if this is not the place to suspend the run (a thread that it started).
        """
        ...


_conductor: ContextVar[Conductor | None] = ContextVar("pyro_llm_conductor", default=None)


@contextmanager
def conducted_by(conductor: Conductor) -> Iterator[None]:
    """Have the requests of this block go to a conductor."""
    token = _conductor.set(conductor)
    try:
        yield
    finally:
        _conductor.reset(token)


def is_conducted() -> bool:
    """Whether somebody conducts, so that requests of other runs may be met."""
    return _conductor.get() is not None


def serve(key: Hashable, create: Callable[[], Service[Any]], request: Request[Answer]) -> Answer:
    """Have a request served, together with those of other runs for the same service where somebody conducts.

    Args:
        key: names the service; equal for all whose requests may meet.
        create: makes it.
        request: what is asked.

    Returns:
        The answer. Raises the error of the request if it failed.
    """
    conductor = _conductor.get()
    if conductor is None or not conductor.serve(key, create, request):
        service = create()
        service.admit(request)
        while not request.done:
            service.advance()
    return request.result()
