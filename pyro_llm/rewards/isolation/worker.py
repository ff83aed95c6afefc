"""The program of a worker process: it makes a function once, and applies it to texts that come one by one.

It is run as a file, and imports nothing of this package, so that it starts in the time that Python takes.
"""

import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection

GRACE = 1.0  # seconds beyond the time limit, after which a worker ends itself if nobody has ended it


def main() -> None:
    """Serve until the other end is closed."""
    connection = Connection(int(sys.argv[1]))
    try:
        sys.path[:], make, limit = pickle.loads(connection.recv_bytes())
        function = pickle.loads(make)()
    except Exception:
        connection.send_bytes(pickle.dumps(("broken", None, traceback.format_exc())))
        return
    connection.send_bytes(pickle.dumps(("ready", None, "")))
    while True:
        try:
            text = connection.recv_bytes().decode("utf-8", "surrogatepass")
        except EOFError:
            return
        # The kernel keeps this time: it ends a worker whose master was killed, even inside of C code.
        signal.setitimer(signal.ITIMER_REAL, limit + GRACE if limit else 0)
        reply = answer(function, text)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.send_bytes(reply)


def answer(function, text) -> bytes:  # type: ignore[no-untyped-def]
    """What the function makes of a text: a number, the text of what is none, or an exception."""
    try:
        value = function(text)
    except Exception as error:
        return pickle.dumps(("raised", picklable(error), traceback.format_exc()))
    try:
        return pickle.dumps(("returned", float(value), ""))
    except Exception:
        return pickle.dumps(("nonsense", None, repr(value)))


def picklable(error: Exception) -> bytes | None:
    """The exception, if it can be read again."""
    try:
        dumped = pickle.dumps(error)
        pickle.loads(dumped)
    except Exception:
        return None
    return dumped


if __name__ == "__main__":
    main()
