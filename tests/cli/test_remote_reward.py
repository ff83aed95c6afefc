"""`pyro-llm solve --file` with a reward on a server: what it fails on is recorded, and the others are kept."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from pyro_llm.cli import app
from pyro_llm.infer import Posterior


@pytest.fixture
def server():
    """Scores all texts, but refuses those on problems that `refused` holds."""

    class Scores(BaseHTTPRequestHandler):
        refused = {"What is 5 + 5?"}  # noqa: RUF012

        @staticmethod
        def refuses(text):
            return False

        def do_POST(self):
            payload = json.loads(self.rfile.read(int(self.headers["content-length"])))
            refused = self.refused & set(payload["problems"]) or any(map(self.refuses, payload["texts"]))
            body = json.dumps({"scores": [0.5] * len(payload["texts"])}).encode()
            self.send_response(403 if refused else 200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Scores)
    thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield serving
    serving.shutdown()
    thread.join()
    serving.server_close()


def test_what_was_solved_is_kept_and_what_failed_is_done_again(server, tmp_path):
    problems, out = tmp_path / "problems.jsonl", tmp_path / "results.jsonl"
    problems.write_text("".join(json.dumps({"problem": f"What is {n} + {n}?"}) + "\n" for n in (4, 5, 6)))
    url = f"http://127.0.0.1:{server.server_address[1]}"
    command = ["solve", "--file", str(problems), "--out", str(out), "--reward", url, "--seed", "1"]
    command += ["--particles", "4", "--runs", "1", "--max-steps", "2", "--max-tokens", "8"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    first = [json.loads(line) for line in out.read_text().splitlines()]
    by_problem = {record["problem"]: record for record in first}  # in the order in which they were done
    failed = by_problem.pop("What is 5 + 5?")
    assert failed["error"].startswith(f"RemoteRewardError: The reward at {url} gave no score for")
    assert len(by_problem) == 2
    for record in by_problem.values():
        assert record["error"] is None
        assert record["cost"]["reward_calls"] > 0

    server.RequestHandlerClass.refused = set()
    assert CliRunner().invoke(app, command).exit_code == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert again[:3] == first
    assert [record["problem"] for record in again[3:]] == ["What is 5 + 5?"]
    assert again[3]["error"] is None


def test_what_a_run_had_when_the_reward_failed_is_written(server, tmp_path):
    """The server refuses texts of more than one line: the run is the first step, and is saved as such."""
    server.RequestHandlerClass.refused = set()
    server.RequestHandlerClass.refuses = staticmethod(lambda text: "\n" in text.rstrip("\n"))
    out, report = tmp_path / "run.nc", tmp_path / "run.html"
    command = ["solve", "Mia has 3 boxes of 4. How many are 3 * 4 + 5?", "--out", str(out), "--report", str(report)]
    command += ["--reward", f"http://127.0.0.1:{server.server_address[1]}", "--seed", "1"]
    result = CliRunner().invoke(app, [*command, "--particles", "4", "--runs", "1", "--max-tokens", "24"])
    assert result.exit_code == 2, result.output
    assert "gave no score for" in " ".join(result.stderr.split()) and "Posterior written to" in result.stderr
    left = Posterior.load(out)
    assert left.stopped_by == "reward" and left.stats.num_steps == 1
    assert left.settings["seed"] == 1 and left.settings["command"]["particles"] == 4
    assert report.stat().st_size > 1000
