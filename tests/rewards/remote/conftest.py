"""A server on this machine that does what a test tells it to: answers, refuses, stalls, breaks off."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pyro_llm.lm import TableLM


class ScriptedServer:
    """Answers posts by `behave(number, path, payload) -> (status, headers, body, declared length)`."""

    def __init__(self, behave):
        self.requests, self.headers, self.most_at_once = [], [], 0
        self._behave, self._lock, self._at_once = behave, threading.Lock(), 0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with owner._lock:
                    number = len(owner.requests)
                    owner.requests.append((self.path, payload))
                    owner.headers.append(dict(self.headers))
                    owner._at_once += 1
                    owner.most_at_once = max(owner.most_at_once, owner._at_once)
                try:
                    answer = owner._behave(number, self.path, payload)
                finally:  # before the answer goes out, which the client may follow with a request at once
                    with owner._lock:
                        owner._at_once -= 1
                self.answer(*answer)

            def answer(self, status, headers, body, length=None):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body) if length is None else length))
                self.end_headers()
                with suppress(OSError):  # the client has given up
                    self.wfile.write(body)
                self.close_connection = True

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def texts(self):
        """All texts that were posted, repeated ones too."""
        return [text for _, payload in self.requests for text in payload["texts"]]

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Serving:
    """Starts servers that end with the test; by default they give each text `probability`."""

    def __init__(self):
        self.started = []

    @staticmethod
    def ok(value):
        return 200, {"content-type": "application/json"}, json.dumps(value).encode()

    @staticmethod
    def probability(text):
        return (1 + text.count("a")) / (2 + len(text))

    @classmethod
    def scored(cls, number, path, payload):
        return cls.ok({"scores": [cls.probability(text) for text in payload["texts"]]})

    def __call__(self, behave=None):
        self.started.append(ScriptedServer(behave or self.scored))
        return self.started[-1]


@pytest.fixture
def serve():
    serving = Serving()
    yield serving
    for server in serving.started:
        server.close()


@pytest.fixture
def lm():
    return TableLM(lambda tokens: [0.4, 0.4, 0.2], ["a", "b", "."], eos_token_id=2)
