"""Remote rewards against a real server that answers, refuses, stalls, breaks off and talks nonsense."""

import json
import math
import pickle
import random
import socket
import threading
import time

import numpy as np
import pytest
import torch

from pyro_llm.errors import MissingExtraError, OptionError, RemoteRewardError
from pyro_llm.infer import SMC
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import ChatEndpoint, HttpOptions, JsonEndpoint, PoolingEndpoint, RemoteReward, load_reward
from pyro_llm.rewards.judges import RUBRIC
from pyro_llm.rewards.remote import Item
from pyro_llm.run_scope import run_scope

FAST = HttpOptions(timeout=5, retries=2, backoff=0.01)
TEXTS = ["aa", "ab", "ba", "bb"]


@pytest.fixture
def state(lm):
    return lm.prompt("1 + 1").append(torch.tensor([[[0, 0], [0, 1]], [[1, 0], [1, 1]], [[0, 0], [0, 1]]]))


def expected(serve, texts=TEXTS):
    return torch.logit(torch.tensor([serve.probability(text) for text in texts], dtype=torch.float64))


def failing(times, failure, serve):
    """Fail so many times, then answer as one should."""

    def behave(number, path, payload):
        return failure if number < times else serve.scored(number, path, payload)

    return behave


def test_scores_in_the_order_of_the_state_distinct_texts_once(serve, state):
    server = serve()
    reward = RemoteReward(server.url, http=FAST)
    with run_scope() as scope:
        found = reward(state)
        torch.testing.assert_close(found, expected(serve)[[0, 1, 2, 3, 0, 1]].reshape(3, 2))
        torch.testing.assert_close(reward(state), found)
    assert server.texts == TEXTS
    assert server.requests[0] == ("/", {"texts": TEXTS, "problems": ["1 + 1"] * 4})
    assert scope.cost.reward_calls == 1
    with run_scope() as scope:  # another run: the object knows them still
        torch.testing.assert_close(reward(state), found)
    assert len(server.requests) == 1
    assert scope.cost.reward_calls == 0


def test_batches_under_a_limit_of_concurrency(serve, lm):
    def slow(number, path, payload):
        time.sleep(0.05)
        return serve.scored(number, path, payload)

    server = serve(slow)
    rows = torch.tensor([[i >> 3 & 1, i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(16)])
    http = HttpOptions(timeout=5, max_concurrency=3, api_key="secret", headers={"X-Team": "t"})
    reward = RemoteReward(server.url, JsonEndpoint(batch_size=2), http)
    state = lm.prompt("?").append(rows)
    torch.testing.assert_close(reward(state), expected(serve, state.texts.tolist()))
    assert [len(payload["texts"]) for _, payload in server.requests] == [2] * 8
    assert server.most_at_once == 3
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0]["X-Team"] == "t"
    assert "secret" not in repr(http)


@pytest.mark.parametrize(
    "failure",
    [
        (429, {"retry-after": "0.02"}, b"slow down"),
        (503, {}, b""),
        (200, {}, b"<html>"),
        (200, {}, b'{"scores": [0.5, 0.5'),
        (200, {}, b'{"scores": [0.5, 0.5, 0.5, 0.5]}', 1000),
        (200, {}, b'{"score": []}'),
        (200, {}, b'{"scores": [0.5]}'),
        (200, {}, b'{"scores": [0.5, NaN, 0.5, 0.5]}'),
        (200, {}, b'{"scores": [0.5, null, 0.5, 0.5]}'),
        (200, {}, b'{"scores": [0.5, 1.5, 0.5, 0.5]}'),
        (200, {}, b"[]"),
        (200, {}, b"\xff"),
        (200, {}, b'{"scores": [0.5, 1' + b"0" * 400 + b", 0.5, 0.5]}"),
    ],
    ids=[
        "429",
        "503",
        "html",
        "cut off",
        "half an answer",
        "other key",
        "too few",
        "nan",
        "null",
        "1.5",
        "list",
        "bytes",
        "401 digits",
    ],
)
def test_what_may_pass_is_tried_again(serve, state, failure):
    server = serve(failing(2, failure, serve))
    generator = random.getstate()
    torch.testing.assert_close(RemoteReward(server.url, http=FAST)(state)[:2].reshape(-1), expected(serve))
    assert len(server.requests) == 3
    assert random.getstate() == generator  # programs are watched for hidden randomness; waits have their own
    server = serve(failing(3, failure, serve))
    with pytest.raises(
        RemoteRewardError, match=r"no score for 4 texts: 'aa', 'ab', 'ba', 'bb'.*\(3 attempts\)"
    ) as error:
        RemoteReward(server.url, http=FAST)(state)
    assert error.value.texts == tuple(TEXTS)
    assert len(server.requests) == 3


def test_retry_after_is_waited_for(serve, state):
    server = serve(failing(1, (429, {"retry-after": "0.4"}, b""), serve))
    started = time.monotonic()
    RemoteReward(server.url, http=FAST)(state)
    assert time.monotonic() - started > 0.4
    server = serve(failing(1, (429, {"retry-after": "3600"}, b""), serve))
    with pytest.raises(RemoteRewardError, match="left alone for 3600 s"):
        RemoteReward(server.url, http=FAST)(state)


def test_what_will_not_pass_is_not_tried_again(serve, state):
    server = serve(lambda *request: (401, {}, b"who are you?"))
    with pytest.raises(RemoteRewardError, match=r"HTTP 401 Unauthorized: 'who are you\?'"):
        RemoteReward(server.url, http=FAST)(state)
    assert len(server.requests) == 1


def test_a_server_that_stalls(serve, state):
    release = threading.Event()

    def stall(number, path, payload):
        if number == 0:
            release.wait(10)
        return serve.scored(number, path, payload)

    server = serve(stall)
    started = time.monotonic()
    RemoteReward(server.url, http=HttpOptions(timeout=0.3, retries=1, backoff=0.01))(state)
    assert 0.3 <= time.monotonic() - started < 5
    release.set()
    assert len(server.requests) == 2


def test_a_server_that_drips(state):
    """A byte now and then keeps each wait short, and the whole answer never comes."""
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
            while not stop.wait(0.05):
                try:
                    connection.sendall(b" ")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(RemoteRewardError, match=r"no whole answer within 0\.3 s"):
        RemoteReward(url, http=HttpOptions(timeout=0.3, retries=0))(state)
    assert time.monotonic() - started < 5
    stop.set()
    thread.join()
    listener.close()


def test_a_server_that_refuses(state):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RemoteRewardError, match=r"ConnectError.*\(3 attempts\)"):
        RemoteReward(f"http://127.0.0.1:{port}", http=FAST)(state)


def test_scores_beside_a_failure_are_kept(serve, state):
    server = serve(
        lambda n, path, payload: (400, {}, b"no") if "ba" in payload["texts"] else serve.scored(n, path, payload)
    )
    reward = RemoteReward(server.url, JsonEndpoint(batch_size=1), FAST)
    with run_scope() as scope, pytest.raises(RemoteRewardError) as error:
        reward(state)
    assert error.value.texts == ("ba",)
    assert "kept" not in str(error.value)  # nothing is, beyond this object
    assert "The scores of the 3 others are kept" in error.value.__notes__[0]
    assert scope.cost.reward_calls == 3
    server._behave = serve.scored
    torch.testing.assert_close(reward(state)[:2].reshape(-1), expected(serve))
    assert sorted(server.texts) == sorted([*TEXTS, "ba"])


def test_a_run_that_failed_is_taken_up_again_from_its_seed(serve, lm):
    """The server goes down in the middle; the same run again asks for nothing twice but what failed."""
    down = threading.Event()

    def behave(number, path, payload):
        if any(len(text) == 3 for text in payload["texts"]) and not down.is_set():
            return 500, {}, b""
        return serve.scored(number, path, payload)

    server = serve(behave)
    reward = RemoteReward(server.url, JsonEndpoint(batch_size=4), HttpOptions(timeout=5, retries=0))
    smc = SMC(ReasoningSSM(lm, reward, max_steps=5, max_tokens=1, stop=None), num_particles=30, progress=False)
    torch.manual_seed(3)
    with pytest.raises(RemoteRewardError) as error:
        smc.run("1 + 1")
    failed, before = set(error.value.texts), len(server.texts)
    down.set()
    torch.manual_seed(3)
    posterior = smc.run("1 + 1")
    again = server.texts[before:]
    assert failed <= set(again)
    assert not set(again) & (set(server.texts[:before]) - failed)
    fresh = RemoteReward(server.url, http=FAST)
    torch.manual_seed(3)
    same = SMC(ReasoningSSM(lm, fresh, max_steps=5, max_tokens=1, stop=None), num_particles=30, progress=False).run(
        "1 + 1"
    )
    assert same.texts.tolist() == posterior.texts.tolist()
    torch.testing.assert_close(same.log_evidence, posterior.log_evidence)


def test_a_judge_behind_a_server_is_asked_what_one_here_is():
    (message,) = ChatEndpoint("judge").payload([Item("1 + 1?", "2")])["messages"]
    assert message["content"] == RUBRIC.format(problem="1 + 1?", solution="2", options="Yes or No")


def test_no_more_scores_are_kept_than_allowed(serve, state):
    server = serve()
    reward = RemoteReward(server.url, http=FAST, max_kept=3)
    reward(state)
    reward(state)
    assert server.texts == [*TEXTS, "aa"]


def test_scores_not_asked_for_the_longest_go_first(serve, lm):
    def ask(*rows):
        reward(lm.prompt("1 + 1").append(torch.tensor(rows)))

    server = serve()
    reward = RemoteReward(server.url, http=FAST, max_kept=2)
    ask([0, 0])
    ask([0, 1])
    ask([0, 0])  # now the one asked for last
    ask([1, 0])  # and "ab" goes
    ask([0, 0])
    assert server.texts == ["aa", "ab", "ba"]
    assert len(pickle.loads(pickle.dumps(reward))._scores._kept) == 2


def test_log_odds_and_names_of_ones_own(serve, state):
    server = serve(lambda n, path, payload: serve.ok({"r": [-1.5, 0, 2, 3e3], "usage": {"total_tokens": 17}}))
    endpoint = JsonEndpoint("log_odds", texts="inputs", problems=None, scores="r", extra=(("model", "m"),))
    with run_scope() as scope:
        found = RemoteReward(server.url + "/score/", endpoint, FAST)(state)
    assert found[:2].reshape(-1).tolist() == [-1.5, 0, 2, 3e3]
    assert server.requests == [("/score", {"model": "m", "inputs": TEXTS})]
    assert scope.cost.reward_tokens == 17


@pytest.mark.parametrize(
    ("rows", "scale", "log_odds"),
    [
        ([[0.25], [0.5]], "probability", [-math.log(3), 0]),
        ([[[0.9, 0.1], [0.2, 0.8]], [[0.5, 0.5]]], "probability", [math.log(4), 0]),
        ([[[1.0, 3.0]], [[0.0, -2.0]]], "log_odds", [2, -2]),
        ([2.5, -1], "log_odds", [2.5, -1]),
    ],
    ids=["one probability", "two classes by step", "two logits", "bare numbers"],
)
def test_vllm_pooling(serve, lm, rows, scale, log_odds):
    answer = {"data": [{"index": i, "object": "pooling", "data": row} for i, row in enumerate(rows)][::-1]}
    server = serve(lambda n, path, payload: serve.ok(answer | {"usage": {"prompt_tokens": 9, "total_tokens": 9}}))
    endpoint = PoolingEndpoint("prm", template="Q: {problem} A: {text}", scale=scale)
    with run_scope() as scope:
        found = RemoteReward(server.url, endpoint, FAST)(lm.prompt("1 + 1").append(torch.tensor([[0], [1]])))
    torch.testing.assert_close(found, torch.tensor(log_odds, dtype=torch.float64))
    assert server.requests == [("/pooling", {"model": "prm", "input": ["Q: 1 + 1 A: a", "Q: 1 + 1 A: b"]})]
    assert (scope.cost.reward_calls, scope.cost.reward_tokens) == (1, 9)


@pytest.mark.parametrize(
    "rows",
    [
        [{"index": 0, "data": [0.5]}, {"index": 0, "data": [0.5]}],
        [{"index": 0, "data": [0.2, 0.3, 0.5]}, {"index": 1, "data": [0.5]}],
        [{"index": 0, "data": [0.2, 0.3]}, {"index": 1, "data": [0.5]}],
        [{"index": 0, "data": []}, {"index": 1, "data": [0.5]}],
        [{"data": [0.5]}, {"data": [0.5]}],
        [{"index": 0, "data": [True]}, {"index": 1, "data": [0.5]}],
        [{"index": 0, "data": [0.5]}],
    ],
)
def test_pooling_answers_that_are_none(serve, lm, rows):
    server = serve(lambda n, path, payload: serve.ok({"data": rows}))
    reward = RemoteReward(server.url, PoolingEndpoint("prm"), HttpOptions(retries=0))
    with pytest.raises(RemoteRewardError, match="cannot be read"):
        reward(lm.prompt("1 + 1").append(torch.tensor([[0], [1]])))


def test_vllm_classify(serve, lm):
    rows = [{"index": 0, "label": "right", "probs": [0.1, 0.9], "num_classes": 2}]
    server = serve(lambda n, path, payload: serve.ok({"data": rows}))
    found = RemoteReward(server.url, PoolingEndpoint("prm", path="/classify"), FAST)(lm.prompt("?"))
    assert float(found) == pytest.approx(math.log(9))
    assert server.requests[0][0] == "/classify"


def told(**logprobs):
    tokens = [{"token": token.replace("_", " "), "logprob": value} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"token": "x", "logprob": 0, "top_logprobs": tokens}]}}]}


def test_a_judge_behind_a_chat_endpoint(serve, lm):
    """P(yes) sums the spellings; of a word that is not told, at most the least told probability is known."""
    answers = {
        "a": told(Yes=math.log(0.5), _yes=math.log(0.1), No=math.log(0.2), Maybe=math.log(0.1)),
        "b": told(No=math.log(0.9), The=math.log(0.01)),
    }
    server = serve(lambda n, path, payload: serve.ok(answers[payload["messages"][0]["content"][-1]]))
    judge = ChatEndpoint("judge", question="{problem} -> {text}", extra=(("seed", 1),))
    reward = RemoteReward(server.url, judge, FAST)
    found = reward(lm.prompt("1 + 1").append(torch.tensor([[0], [1]])))
    torch.testing.assert_close(found.exp(), torch.tensor([0.6 / 0.2, 0.01 / 0.9], dtype=torch.float64))
    path, payload = min(server.requests, key=lambda request: json.dumps(request))
    assert path == "/v1/chat/completions"
    assert payload == {
        "model": "judge",
        "messages": [{"role": "user", "content": "1 + 1 -> a"}],
        "max_tokens": 1,
        "temperature": 1.0,
        "logprobs": True,
        "top_logprobs": 20,
        "seed": 1,
    }


def test_a_judge_that_says_neither(serve, lm):
    for answer in (told(Perhaps=-0.1, So=-3.0), {"choices": [{"logprobs": None}]}, {"choices": []}):
        server = serve(lambda n, path, payload, answer=answer: serve.ok(answer))
        with pytest.raises(RemoteRewardError, match="cannot be read"):
            RemoteReward(server.url, ChatEndpoint("judge"), HttpOptions(retries=0))(lm.prompt("?"))


def test_loaded_by_address_and_pickled(serve, state):
    server = serve()
    reward = load_reward(server.url)
    assert repr(reward) == f"RemoteReward({server.url!r}, JsonEndpoint)"
    torch.testing.assert_close(pickle.loads(pickle.dumps(reward))(state)[:2].reshape(-1), expected(serve))
    with pytest.raises(OptionError, match="no device, dtype or format"):
        load_reward(server.url, dtype="bfloat16")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RemoteReward("ftp://x"), "must begin with http"),
        (lambda: RemoteReward("localhost:8000"), "must begin with http"),
        (lambda: RemoteReward("http://[::1"), "is no address"),
        (lambda: HttpOptions(timeout=0), "timeout=0"),
        (lambda: HttpOptions(backoff=math.inf), "backoff=inf"),
        (lambda: HttpOptions(retries=-1), "retries=-1"),
        (lambda: RemoteReward("http://x", max_kept=-1), "max_kept=-1"),
        (lambda: HttpOptions(max_concurrency=0), "max_concurrency=0"),
        (lambda: HttpOptions(max_concurrency=1.5), "max_concurrency=1.5"),
        (lambda: HttpOptions(max_concurrency=True), "max_concurrency=True"),
        (lambda: HttpOptions(retries="2"), "retries='2'"),
        (lambda: RemoteReward("http://x", max_kept=1.5), "max_kept=1.5"),
        (lambda: JsonEndpoint(batch_size=1.5), "batch_size=1.5"),
        (lambda: PoolingEndpoint("m", batch_size=1.5), "batch_size=1.5"),
        (lambda: ChatEndpoint("m", top_logprobs=2.5), "top_logprobs=2.5"),
        (lambda: JsonEndpoint("logits"), "no scale 'logits'"),
        (lambda: JsonEndpoint(batch_size=0), "batch_size=0"),
        (lambda: PoolingEndpoint("m", template="{problem}"), "has no {text}"),
        (lambda: PoolingEndpoint("m", template="{solution}"), "cannot be filled"),
        (lambda: ChatEndpoint("m", top_logprobs=50), "top_logprobs=50"),
    ],
)
def test_bad_options(make, reason):
    with pytest.raises(OptionError, match=reason):
        make()


def test_integers_of_numpy_are_integers(serve, state):
    http = HttpOptions(timeout=5, retries=np.int8(127), max_concurrency=np.int64(3))
    assert [type(number) for number in (http.retries, http.max_concurrency)] == [int, int]
    server = serve()
    RemoteReward(server.url, JsonEndpoint(batch_size=np.int64(2)), http, max_kept=np.int64(5))(state)
    assert server.texts == TEXTS
    assert json.dumps(ChatEndpoint("m", top_logprobs=np.int64(5)).payload([Item("1 + 1?", "2")]))


def test_without_httpx(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "httpx", None)
    with pytest.raises(MissingExtraError, match=r"pyro-llm\[remote\]"):
        RemoteReward("http://127.0.0.1:1")


@pytest.mark.parametrize("tokens", [True, -5, "9", 1.5])
def test_strange_counts_of_tokens_are_none(serve, lm, tokens):
    server = serve(lambda n, path, payload: serve.ok({"scores": [0.5], "usage": {"total_tokens": tokens}}))
    with run_scope() as scope:
        RemoteReward(server.url, http=FAST)(lm.prompt("?"))
    assert scope.cost.reward_tokens == 0


def test_differences_that_are_none(serve, lm):
    server = serve(lambda n, path, payload: (200, {}, b'{"data": [{"index": 0, "data": [Infinity, Infinity]}]}'))
    reward = RemoteReward(server.url, PoolingEndpoint("prm", scale="log_odds"), HttpOptions(retries=0))
    with pytest.raises(RemoteRewardError, match="log-odds that are NaN"):
        reward(lm.prompt("?"))


def test_an_endpoint_of_ones_own_that_reads_too_few(serve, state):
    class Careless(JsonEndpoint):
        def read(self, items, answer):
            return super().read(items, answer)._replace(log_odds=[0.0])

    with pytest.raises(RemoteRewardError, match="1 scores for 4 texts"):
        RemoteReward(serve().url, Careless(), HttpOptions(retries=0))(state)
