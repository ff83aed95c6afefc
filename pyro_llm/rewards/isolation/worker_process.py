"""One worker process, seen from its master."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import NamedTuple

from pyro_llm.errors import RewardError

_PROGRAM = Path(__file__).with_name("worker.py")
_START_LIMIT = 120.0  # seconds for Python to start and import what the function needs


class Reply(NamedTuple):
    """What came of a text.

    Attributes:
        kind: `"returned"` a number, `"nonsense"` (no number), `"raised"` an exception, `"timeout"`, `"crash"`; of a
            start also `"ready"` and `"broken"`.
        value: the number, or the pickled exception.
        detail: in words.
    """

    kind: str
    value: float | bytes | None
    detail: str


class WorkerProcess:
    """A process in a session of its own, so that an interrupt from the terminal reaches its master alone.

    Args:
        make: a pickled function without arguments that makes the function of text.
        limit: seconds for a text, or None.

    Raises:
        RewardError: the process cannot make the function.
    """

    def __init__(self, make: bytes, limit: float | None) -> None:
        if os.name != "posix":
            raise RewardError("Functions run in a process of their own on Linux and macOS only; take FunctionReward.")
        self.connection, theirs = Pipe()
        command = [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        try:
            self.connection.send_bytes(pickle.dumps((sys.path, make, limit)))
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def _await_ready(self) -> None:
        if not self.connection.poll(_START_LIMIT):
            raise RewardError(f"The process of a reward function was not ready after {_START_LIMIT:.0f} s.")
        reply = self.receive()
        if reply.kind != "ready":
            raise RewardError(f"The process of a reward function could not start: {reply.detail.strip()}")

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def send(self, text: str) -> None:
        """Ask about a text."""
        self.connection.send_bytes(text.encode("utf-8", "surrogatepass"))

    def receive(self) -> Reply:
        """The answer, waited for. If the process has ended instead, it is a crash."""
        try:
            return Reply(*pickle.loads(self.connection.recv_bytes()))
        except (EOFError, ConnectionError):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)  # its own exit status, before it is killed for the sake of its children
            self.kill()
            return Reply("crash", None, _ending(self._process.returncode))

    def kill(self) -> None:
        """End the process and what it has started, and close the connection."""
        self.connection.close()
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    with suppress(ValueError):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process was ended by signal {-code}"
