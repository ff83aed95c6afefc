"""Which format a checkpoint is in, and what is said of one that is in none."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from pyro_llm import load_reward, zoo
from pyro_llm.errors import ModelFolderError, OptionError, RewardFormatError
from pyro_llm.rewards import MathShepherdReward, ProcessReward, SkyworkProcessReward, TRLProcessReward

from .conftest import byte_tokenizer, publish, random_model, random_weights

VALUE = {"v_head__summary__weight": (1, 32), "v_head__summary__bias": (1,)}


def test_a_plain_language_model_is_no_reward_and_the_error_lists_what_was_looked_for(tmp_path):
    publish(tmp_path, random_model(LlamaForCausalLM, "llama", byte_tokenizer()), byte_tokenizer())
    with pytest.raises(RewardFormatError) as error:
        load_reward(tmp_path)
    message = str(error.value)
    for looked_for in ("ForProcessRewardModel", "v_head.summary.weight", "two labels", "math-shepherd", "rlhflow",
                       "reference=", "ForRewardModelWithGating", "ForSequenceClassification", "LlamaForCausalLM",
                       "load_lm"):  # fmt: skip
        assert looked_for in message
    with pytest.raises(OptionError, match="no reward format 'prm'; choose one of 'last-token', 'qwen-prm'"):
        load_reward(tmp_path, format="prm")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "index"])
def test_a_value_head_is_found_among_the_weights(tmp_path, file):
    tokenizer = byte_tokenizer(bos="<bos>")
    model = random_model(LlamaForCausalLM, "llama", tokenizer)
    publish(tmp_path, model, tokenizer, random_weights(**VALUE))
    weights = tmp_path / "model.safetensors"
    if file == "pytorch_model.bin":
        torch.save(load_file(weights), tmp_path / file)
        weights.unlink()
    elif file == "index":
        names = dict.fromkeys(load_file(weights), "model-00001-of-00001.safetensors")
        weights.rename(tmp_path / "model-00001-of-00001.safetensors")
        index = {"metadata": {"total_size": 1}, "weight_map": names}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert type(load_reward(tmp_path)) is SkyworkProcessReward


def test_token_classifiers_are_ours_or_those_of_trl(tmp_path):
    shutil.copytree(zoo.path("abacus", "reward"), tmp_path / "copy")
    assert type(load_reward(tmp_path / "copy")) is ProcessReward
    assert type(load_reward(tmp_path / "copy", format="trl")) is TRLProcessReward
    tokenizer = byte_tokenizer()
    (tmp_path / "three").mkdir()
    publish(tmp_path / "three", random_model(LlamaForTokenClassification, "llama", tokenizer, num_labels=3), tokenizer)
    with pytest.raises(RewardFormatError, match="3 labels"):
        load_reward(tmp_path / "three")


def test_a_format_can_be_forced(tmp_path):
    tokenizer = byte_tokenizer(merged=[" ки", " -"])
    publish(tmp_path, random_model(LlamaForCausalLM, "llama", tokenizer), tokenizer)
    assert type(load_reward(tmp_path, format="math-shepherd")) is MathShepherdReward


def test_code_of_a_checkpoint_is_not_run(tmp_path):
    tokenizer = byte_tokenizer()
    publish(tmp_path, random_model(LlamaForCausalLM, "llama", tokenizer), tokenizer)
    (tmp_path / "modeling_custom.py").write_text("raise SystemExit('was run')")
    config = json.loads((tmp_path / "config.json").read_text())
    custom = {"AutoConfig": "modeling_custom.C", "AutoModel": "modeling_custom.M"}
    config |= {"architectures": ["InternLM2ForRewardModel"], "model_type": "internlm2", "auto_map": custom}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RewardFormatError, match="is not run here"):
        load_reward(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelFolderError, match=r"config\.json"):
        load_reward(tmp_path)
