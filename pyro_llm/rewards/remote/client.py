"""Requests that are tried again: over HTTP, with time-outs and a limit on how many are under way."""

from __future__ import annotations

import email.utils
import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from pyro_llm.errors import MissingExtraError, OptionError
from pyro_llm.rewards.counts import set_counts

if TYPE_CHECKING:
    import httpx

TRY_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_SHOWN = 300


class Failure(Exception):
    """A request failed for good; the message says how."""


class _Passing(Exception):
    """A request failed in a way that may pass; `after` is how long the server asked to wait, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(frozen=True)
class HttpOptions:
    """How requests are made.

    Args:
        timeout: seconds in which a connection must be made, and then those in which the whole answer must be there.
        retries: how often a request is tried again after no connection, a time-out, an answer that breaks off or is no
            JSON, or one of the status codes 408, 409, 425, 429, 500, 502, 503, 504.
        backoff: seconds before the first retry; twice as long before each further one, at most `longest_wait`, and of
            that a random share between one half and all. A `Retry-After` of the server's takes its place.
        longest_wait: seconds; a server that asks for a longer wait is not asked again.
        max_concurrency: the most requests of one client (one reward) under way at once, whoever asks.
        headers: sent with each request.
        api_key: sent as a bearer token; shown nowhere.

    Raises:
        OptionError: an option is out of its range.
    """

    timeout: float = 60.0
    retries: int = 4
    backoff: float = 0.5
    longest_wait: float = 60.0
    max_concurrency: int = 8
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("timeout", "backoff", "longest_wait"):
            if not 0 < getattr(self, name) < math.inf:
                raise OptionError(f"{name}={getattr(self, name)!r}: give a positive number of seconds.")
        set_counts(self, retries=0, max_concurrency=1)


def http_library() -> Any:
    """The package httpx. Raises MissingExtraError where it is not installed."""
    try:
        import httpx
    except ImportError as error:
        raise MissingExtraError("Remote rewards need httpx: pip install 'pyro-llm[remote]'.") from error
    return httpx


class JsonClient:
    """Posts JSON and reads JSON, several requests at once; those of all threads together keep to the limit."""

    def __init__(self, url: str, options: HttpOptions) -> None:
        self.url, self.options = url, options
        self._slots = threading.BoundedSemaphore(options.max_concurrency)
        self._random = random.Random()  # of its own: programs are watched for use of the global one
        self._httpx = http_library()
        try:
            scheme = self._httpx.URL(url).scheme
        except (self._httpx.InvalidURL, TypeError) as error:
            raise OptionError(f"{url!r} is no address: {error}.") from error
        if scheme not in ("http", "https"):
            raise OptionError(f"{url!r} is no address of a server: it must begin with http:// or https://.")

    def post_all(
        self, payloads: Sequence[Any], read: Callable[[int, Any], Any]
    ) -> Iterator[tuple[int, Any, Failure | None]]:
        """Post payloads and yield, as they come, the place of each, what `read` made of the answer, and what failed.

        Args:
            payloads: what is posted, as JSON.
            read: of a place and an answer; it raises ValueError for an answer that is none, which is asked for again.
        """
        options = self.options
        headers = dict(options.headers)
        if options.api_key is not None:
            headers["Authorization"] = f"Bearer {options.api_key}"
        stop = threading.Event()
        limits = self._httpx.Limits(max_connections=options.max_concurrency)
        workers = min(options.max_concurrency, len(payloads)) or 1
        with (
            self._httpx.Client(headers=headers, timeout=options.timeout, limits=limits) as client,
            ThreadPoolExecutor(workers, thread_name_prefix="remote-reward") as pool,
        ):
            futures: dict[Future[Any], int] = {
                pool.submit(self._post, client, stop, payload, partial(read, place)): place
                for place, payload in enumerate(payloads)
            }
            try:
                waiting = set(futures)
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        error = future.exception()
                        if error is not None and not isinstance(error, Failure):
                            raise error
                        yield futures[future], None if error else future.result(), error
            finally:
                stop.set()  # of interest if the caller was interrupted: waits end, and what has not begun does not
                for future in futures:
                    future.cancel()

    def _post(self, client: httpx.Client, stop: threading.Event, payload: Any, read: Callable[[Any], Any]) -> Any:
        options = self.options
        for attempt in range(options.retries + 1):
            try:
                with self._slots:
                    if stop.is_set():
                        raise Failure("interrupted")
                    return self._once(client, payload, read)
            except _Passing as passing:
                pause = min(options.longest_wait, options.backoff * 2**attempt) * self._random.uniform(0.5, 1)
                if passing.after is not None:
                    pause = passing.after
                if attempt == options.retries:
                    raise Failure(f"{passing} ({attempt + 1} attempts)") from passing
                if pause > options.longest_wait:
                    raise Failure(f"{passing}, and asks to be left alone for {pause:.0f} s") from passing
                if stop.wait(pause):
                    raise Failure("interrupted") from passing
        raise AssertionError

    def _once(self, client: httpx.Client, payload: Any, read: Callable[[Any], Any]) -> Any:
        deadline = time.monotonic() + self.options.timeout
        late = f"no whole answer within {self.options.timeout:g} s"
        body = bytearray()
        try:
            with client.stream("POST", self.url, json=payload) as response:
                for part in response.iter_bytes():
                    body += part
                    if time.monotonic() > deadline:  # httpx limits the wait for each part, not for all
                        raise _Passing(late)
        except self._httpx.TimeoutException as error:
            raise _Passing(late) from error
        except (self._httpx.TransportError, self._httpx.DecodingError) as error:
            raise _Passing(f"{type(error).__name__}: {error}") from error
        shown = repr(bytes(body[:_SHOWN]).decode(errors="replace"))
        status = f"HTTP {response.status_code} {response.reason_phrase}: {shown}"
        if response.status_code in TRY_AGAIN:
            raise _Passing(status, _retry_after(response.headers.get("retry-after")))
        if not response.is_success:
            raise Failure(status)
        try:
            return read(json.loads(body))
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise _Passing(f"an answer that cannot be read ({why}): {shown}") from error


def _retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number of seconds or a date (RFC 9110, section 10.2.3); None if neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
