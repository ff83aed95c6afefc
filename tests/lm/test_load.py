"""Loading by name, and what is said of names that lead nowhere."""

import json

import pytest
import torch

from pyro_llm import zoo
from pyro_llm.errors import MissingExtraError, ModelFolderError, OptionError, UnknownModelError
from pyro_llm.lm import Decoding, SamplingKey, load_lm
from pyro_llm.rewards import load_reward


@pytest.fixture
def folder(tmp_path, llama_model, tokenizer):
    llama_model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def draw(lm):
    state = lm.prompt("ab 1").expand((5,))
    return state.session.sample(state.prefix(), Decoding(6), SamplingKey(0, torch.arange(5)))


def test_the_embedded_model_writes():
    lm = load_lm("abacus")
    assert lm.name == "abacus"
    state = lm.prompt("4 + 5").expand((4,))
    state = state.append(
        state.session.sample(state.prefix(), Decoding(16, stop="\n"), SamplingKey(0, torch.arange(4))).tokens
    )
    assert all(state.texts)


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_is_loaded_as_it_was_saved(folder, kind, llama_lm):
    lm = load_lm(kind(folder))
    assert lm.name == str(folder)
    assert not lm.model.training
    assert torch.equal(draw(lm).tokens, draw(llama_lm).tokens)


def test_a_folder_that_is_named_like_nothing_else_needs_no_separator(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert load_lm("model").vocabulary_size == 40


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_dtype_and_device_are_chosen(folder, dtype):
    lm = load_lm(folder, dtype=dtype, device="cpu")
    assert lm.dtype == torch.bfloat16
    assert load_lm(folder).dtype == torch.float32
    assert load_lm(folder, device=torch.device("meta")).device.type == "meta"


@pytest.mark.parametrize("last", ["cpu", "disk"])
def test_a_device_map_goes_to_transformers(folder, llama_lm, last):
    """The second layer's weights are read from the file whenever it is their turn, or lie where the others are."""
    places = dict.fromkeys(("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    lm = load_lm(folder, device_map={**places, "model.layers.1": last})
    assert lm.device == torch.device("cpu")
    assert next(lm.model.model.layers[1].parameters()).is_meta == (last == "disk")
    drawn, right = draw(lm), draw(llama_lm)
    assert torch.equal(drawn.tokens, right.tokens)
    assert torch.equal(drawn.log_prob, right.log_prob)


def test_a_model_that_lies_on_disk_altogether(folder, llama_lm):
    lm = load_lm(folder, device_map={"": "disk"})
    assert lm.device == torch.device("cpu")
    assert torch.equal(draw(lm).tokens, draw(llama_lm).tokens)


def test_what_a_device_map_needs(folder, monkeypatch):
    with pytest.raises(OptionError, match="device='cpu' and device_map='auto'"):
        load_lm(folder, device="cpu", device_map="auto")
    monkeypatch.setattr("pyro_llm.lm.pretrained.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install accelerate"):
        load_lm(folder, device_map="auto")


def test_a_quantisation_whose_package_is_missing(folder):
    with pytest.raises(ModelFolderError, match="bitsandbytes"):
        load_lm(folder, quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})


@pytest.mark.parametrize("dtype", ["float31", "int8", torch.int64, "nn"])
def test_unknown_dtypes_are_refused(folder, dtype):
    with pytest.raises(ValueError, match="dtype must be a floating type"):
        load_lm(folder, dtype=dtype)


def test_the_system_prompt_is_passed_on(folder):
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    lm = load_lm(folder, system_prompt="brief ")
    assert lm.tokenizer.decode(lm.prompt("ab").prompt_tokens.tolist()) == "brief ab"


def test_an_unknown_name_is_told_what_there_is(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        UnknownModelError, match=r"'abakus' is not an embedded model \(.*abacus.*\).*did you mean 'abacus'\?"
    ):
        load_lm("abakus")
    with pytest.raises(UnknownModelError, match="someone/nothing-of-this-name"):
        load_lm("someone/nothing-of-this-name")


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "~/nowhere"])
def test_a_folder_that_is_not_there(name):
    with pytest.raises(ModelFolderError, match="there is no folder"):
        load_lm(name)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ModelFolderError, match=r"no config\.json"):
        load_lm(tmp_path)


def test_a_folder_without_weights_or_with_a_broken_config(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelFolderError, match="could be loaded from"):
        load_lm(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelFolderError, match="could be loaded from"):
        load_lm(folder)


def test_a_folder_with_a_model_that_writes_nothing(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "vit", "architectures": ["ViTModel"]}))
    with pytest.raises(ModelFolderError, match="no causal language model"):
        load_lm(folder)


def test_a_reward_model_is_no_language_model():
    with pytest.raises(ModelFolderError, match=r"LlamaForTokenClassification.*load_reward"):
        load_lm(zoo.path("abacus", "reward"))


def test_a_folder_without_a_tokenizer(folder):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(ModelFolderError, match="tokenizer"):
        load_lm(folder)


def test_damaged_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFolderError, match="could be loaded from"):
        load_lm(folder)


def test_gguf_files_that_are_not_there_or_are_none(tmp_path):
    with pytest.raises(ModelFolderError, match="there is no file"):
        load_lm(tmp_path / "absent.gguf")
    (tmp_path / "broken.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelFolderError, match=r"broken\.gguf"):
        load_lm(tmp_path / "broken.gguf")


def test_gguf_files_need_packages_that_are_named(tmp_path, monkeypatch):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("pyro_llm.lm.load.find_spec", lambda package: None)
    with pytest.raises(ModelFolderError, match="pip install gguf accelerate"):
        load_lm(tmp_path / "model.gguf")


@pytest.mark.parametrize("device", ["cuda:77", "gpu", 3.5])
@pytest.mark.parametrize("load", [load_lm, load_reward])
def test_a_device_that_is_not_there(load, device):
    with pytest.raises(OptionError, match=rf"device='{device}' cannot be used here: .*Leave device out"):
        load("abacus", device=device)
