"""Qwen2.5-Math-PRM behind a server that pools at step tags, as vLLM does, scores as the same checkpoint here."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torch.nn.functional as F

from pyro_llm import load_reward
from pyro_llm.errors import OptionError, RemoteRewardError
from pyro_llm.rewards import HttpOptions, PoolingEndpoint, RemoteReward
from pyro_llm.rewards.remote import Item

from .conftest import PROBLEM, STEPS
from .test_process_formats import qwen

HTTP = HttpOptions(timeout=30, retries=0)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen") / "Qwen2.5-Math-PRM-7B"
    folder.mkdir()
    qwen(folder)
    return load_reward(folder)


@pytest.fixture(scope="module")
def url(local):
    """Rows of softmaxes at `<extra_0>`, and none for a text without: the model is the local one's, the rest is not."""
    tokenizer, model = local.tokenizer, local.model
    tag = tokenizer.convert_tokens_to_ids("<extra_0>")

    class Pooling(BaseHTTPRequestHandler):
        def do_POST(self):
            texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
            data = []
            for index, text in enumerate(texts):
                ids = torch.tensor([tokenizer.encode(text)])
                with torch.no_grad():
                    rows = F.softmax(model(ids).logits, -1)[ids == tag]
                data.append({"index": index, "object": "pooling", "data": rows.tolist()})
            body = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Pooling)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("separator", ["\n\n", "\n"])
def test_scores_are_those_of_the_checkpoint_here(local, url, written, separator, monkeypatch):
    monkeypatch.setattr(local, "step_separator", separator)
    state = written(separator)
    endpoint = PoolingEndpoint.qwen_prm("prm", step_separator=separator)
    found = RemoteReward(url, endpoint, HTTP)(state)
    torch.testing.assert_close(found, local(state).double(), rtol=0, atol=1e-4)
    assert len({round(value, 3) for value in found.tolist()}) >= 3
    for item in RemoteReward(url, endpoint, HTTP).items(state):
        (text,) = endpoint.payload([item])["input"]
        read = local.encode(local.parts(local.items(state)[state.texts.tolist().index(item.text)])[-1])
        assert local.tokenizer.encode(text)[: len(read)] == read
        assert local.tokenizer.decode(local.tokenizer.encode(text)[len(read) :]) == "<|im_end|>\n"


def test_the_default_separator_and_a_system_prompt_of_ones_own(local):
    default = PoolingEndpoint.qwen_prm("prm")
    assert default.step_separator == local.step_separator
    assert local.system_prompt in default.template.format(problem="", text="")
    brief = PoolingEndpoint.qwen_prm("prm", system_prompt="{Be} brief.")
    (text,) = brief.payload([Item(PROBLEM, "\n\n".join(STEPS))])["input"]
    assert text.startswith("<|im_start|>system\n{Be} brief.<|im_end|>\n")
    assert text.count("<extra_0>") == len(STEPS)


def test_a_template_without_tags_gets_no_rows(url, written):
    endpoint = PoolingEndpoint("prm", template="{problem}\n{text}")
    with pytest.raises(RemoteRewardError, match="0 numbers for a text"):
        RemoteReward(url, endpoint, HTTP)(written())


@pytest.mark.parametrize(
    "options", [{"step_separator": "\n"}, {"step_tag": "<x>"}, {"step_separator": "", "step_tag": "<x>"}]
)
def test_half_an_option(options):
    with pytest.raises(OptionError, match="give both"):
        PoolingEndpoint("prm", **options)
