"""Outcome reward models against plain transformers, and ArmoRM against its modelling file's arithmetic."""

import json

import pytest
import torch
from torch.nn import functional as F
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    LlamaForSequenceClassification,
    LlamaModel,
    Qwen2Model,
)

from pyro_llm import load_reward
from pyro_llm.errors import ModelFolderError, OptionError, RewardFormatError
from pyro_llm.rewards import ArmoReward, OutcomeReward
from pyro_llm.run_scope import run_scope

from .conftest import CHATML, LLAMA3, PROBLEM, STEPS, byte_tokenizer, publish, random_model, random_weights

GATING = {"gating_temperature": 2.0, "gating_hidden_dim": 16, "gating_n_hidden": 2, "num_objectives": 5}


def conversation(tokenizer, text, problem=PROBLEM):
    messages = [{"role": "user", "content": problem}, {"role": "assistant", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, tokenize=False)
    return torch.tensor([tokenizer.encode(rendered, add_special_tokens=False)])


def texts(separator="\n\n"):
    return [separator.join([*STEPS[:count], ""]) for count in (1, 2)] + [separator.join(STEPS)] * 2


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 2])
def test_skywork_reward(tmp_path, written, labels):
    tokenizer = byte_tokenizer(LLAMA3)
    publish(tmp_path, random_model(LlamaForSequenceClassification, "llama", tokenizer, num_labels=labels), tokenizer)
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    logits = torch.cat([reference(conversation(tokenizer, text)).logits for text in texts()])
    expected = logits[:, 0] if labels == 1 else logits[:, 1] - logits[:, 0]
    reward = load_reward(tmp_path)
    assert type(reward) is OutcomeReward
    with run_scope() as scope:
        torch.testing.assert_close(reward(written()), expected, rtol=0, atol=1e-4)
    assert scope.cost.reward_tokens < sum(conversation(tokenizer, text).numel() for text in texts()[:3])  # shared
    assert len(expected.round(decimals=3).unique()) == 3
    system = load_reward(tmp_path, system_prompt="Be strict.")
    assert system.tokenizer.decode(system.encode(system.items(written())[0])).startswith(
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe strict.<|eot_id|><|start_header_id|>user"
    )
    half = load_reward(tmp_path, dtype="bfloat16")(written())
    torch.testing.assert_close(half, expected, rtol=0.05, atol=0.3)


@torch.no_grad()
def test_the_head_is_read_where_transformers_reads_it_if_the_last_token_is_padding(tmp_path, written):
    tokenizer = byte_tokenizer(LLAMA3)
    closing = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    model = random_model(LlamaForSequenceClassification, "llama", tokenizer, num_labels=1, pad_token_id=closing)
    publish(tmp_path, model, tokenizer)
    expected = torch.cat([model(conversation(tokenizer, text)).logits[:, 0] for text in texts()])
    torch.testing.assert_close(load_reward(tmp_path)(written()), expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_qwen_math_rm(tmp_path, written):
    tokenizer = byte_tokenizer(CHATML)
    head = {"score__0__weight": (32, 32), "score__0__bias": (32,), "score__2__weight": (1, 32), "score__2__bias": (1,)}
    weights, model = random_weights(**head), random_model(Qwen2Model, "qwen2", tokenizer, num_labels=1)
    publish(tmp_path, model, tokenizer, weights, architectures=["Qwen2ForRewardModel"])
    expected = []
    for text in texts():
        hidden = model(conversation(tokenizer, text)).last_hidden_state[0, -1]
        hidden = F.linear(hidden, weights["score.0.weight"], weights["score.0.bias"]).relu()
        expected.append(F.linear(hidden, weights["score.2.weight"], weights["score.2.bias"]))
    torch.testing.assert_close(load_reward(tmp_path)(written()), torch.cat(expected), rtol=0, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("labels", [1, 2])
def test_the_width_of_a_head_is_that_of_its_weights(tmp_path, written, labels):
    """A configuration without labels, as that of Qwen2.5-Math-RM: transformers takes it to mean two."""
    tokenizer = byte_tokenizer(CHATML)
    head = {"score__0__weight": (32, 32), "score__0__bias": (32,)}
    last = {"score__2__weight": (labels, 32), "score__2__bias": (labels,)}
    weights, model = random_weights(**head, **last), random_model(Qwen2Model, "qwen2", tokenizer)
    kind = {1: "Qwen2ForRewardModel", 2: "Qwen2ForProcessRewardModel"}[labels]
    publish(tmp_path, model, tokenizer, weights, architectures=[kind])
    config = json.loads((tmp_path / "config.json").read_text())
    assert not {"num_labels", "id2label", "label2id"} & config.keys()
    reward = load_reward(tmp_path)
    assert reward.model.config.num_labels == labels
    assert reward.model.score[2].weight.equal(weights["score.2.weight"])
    assert reward(written()).isfinite().all()


def test_weights_of_another_shape_are_told_with_their_shapes(tmp_path):
    tokenizer = byte_tokenizer(CHATML)
    head = {"score__0__weight": (24, 32), "score__0__bias": (24,)}
    weights = random_weights(**head, score__2__weight=(1, 24), score__2__bias=(1,))
    publish(
        tmp_path,
        random_model(Qwen2Model, "qwen2", tokenizer),
        tokenizer,
        weights,
        architectures=["Qwen2ForRewardModel"],
    )
    expected = r"score\.0\.weight is \(24, 32\) in the checkpoint and \(32, 32\) by the configuration"
    with pytest.raises(ModelFolderError, match=expected) as caught:
        load_reward(tmp_path)
    assert "report" not in str(caught.value)


def armorm(folder, **config):
    tokenizer = byte_tokenizer(LLAMA3)
    model = random_model(LlamaModel, "llama", tokenizer, num_labels=1)
    weights = random_weights(
        regression_layer__weight=(5, 32), reward_transform_matrix=(5, 5), gating__logit_scale=(1,),
        gating__layers__0__weight=(16, 32), gating__layers__0__bias=(16,),
        gating__layers__1__weight=(16, 16), gating__layers__1__bias=(16,),
        gating__layers__2__weight=(5, 16), gating__layers__2__bias=(5,),
    )  # fmt: skip
    named = {"architectures": ["LlamaForRewardModelWithGating"], "auto_map": {"AutoModel": "modeling_custom.Llama"}}
    publish(folder, model, tokenizer, weights, **named, **GATING, **config)
    return tokenizer, model, weights


@torch.no_grad()
def test_armorm(tmp_path, written):
    tokenizer, model, weights = armorm(tmp_path)

    def score(text, problem):
        ids = conversation(tokenizer, text, problem)
        hidden = model(ids).last_hidden_state[0]
        rewards = weights["regression_layer.weight"] @ hidden[-1]
        pattern = tokenizer.encode("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
        row = ids[0].tolist()
        place = max(at for at in range(len(row)) if row[at : at + len(pattern)] == pattern)
        gate = hidden[place]
        for layer in range(3):
            gate = F.linear(gate, weights[f"gating.layers.{layer}.weight"], weights[f"gating.layers.{layer}.bias"])
            gate = gate.relu() if layer < 2 else gate
        gate = (gate / 2.0).softmax(-1) * weights["gating.logit_scale"]
        return (gate * (rewards @ weights["reward_transform_matrix"])).sum().item()

    reward = load_reward(tmp_path)
    assert type(reward) is ArmoReward
    for problem in (PROBLEM, "Another?"):
        expected = [score(text, problem) for text in texts()]
        assert len({round(value, 3) for value in expected}) == 3
        assert reward(written(prompt=problem)).tolist() == pytest.approx(expected, abs=1e-4)


def test_what_outcome_models_are_refused(tmp_path):
    tokenizer, _, _ = armorm(tmp_path)
    with pytest.raises(RewardFormatError, match="does not open the assistant's turn"):
        ArmoReward(load_reward(tmp_path).model, byte_tokenizer(CHATML))
    with pytest.raises(RewardFormatError, match="no chat template"):
        OutcomeReward(load_reward(tmp_path).model, byte_tokenizer())
    many = random_model(LlamaForSequenceClassification, "llama", tokenizer, num_labels=4)
    with pytest.raises(RewardFormatError, match="4 labels"):
        OutcomeReward(many, tokenizer)
    with pytest.raises(OptionError, match="no option 'aggregation'"):
        load_reward(tmp_path, aggregation="min")
    armorm(tmp_path, num_quantiles=19)
    (tmp_path / "quantiles").mkdir()
    publish(tmp_path / "quantiles", many, tokenizer, architectures=["LlamaForRewardModelWithGating"], **GATING)
    with pytest.raises(ModelFolderError, match=r"no weights for gating\.layers"):
        load_reward(tmp_path / "quantiles")


@pytest.mark.parametrize(
    ("model_class", "config_class", "message"),
    [
        (DebertaV2ForSequenceClassification, DebertaV2Config, "no plain decoder"),
        (BertForSequenceClassification, BertConfig, "no weights for score"),
    ],
)
def test_encoders_are_refused(tmp_path, model_class, config_class, message):
    tokenizer = byte_tokenizer(CHATML)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = model_class(config_class(vocab_size=len(tokenizer), num_labels=1, **small))
    publish(tmp_path, model, tokenizer)
    with pytest.raises(ModelFolderError, match=message):
        load_reward(tmp_path)
