"""Implicit rewards: exactly on tables, and on two random models as the released evaluation computes them."""

import math

import pytest
import torch
from transformers import Qwen2ForCausalLM

from pyro_llm import load_reward
from pyro_llm.errors import ModelFolderError, RewardError, RewardFormatError
from pyro_llm.lm import PAD, HFLanguageModel, TableLM
from pyro_llm.rewards import ImplicitReward
from pyro_llm.rewards.formats.checkpoint import Checkpoint
from pyro_llm.run_scope import run_scope

from .conftest import CHATML, PROBLEM, STEPS, byte_tokenizer, publish, random_model

TEXTS = ["\n\n".join([*STEPS[:count], ""]) for count in (1, 2)] + ["\n\n".join(STEPS)]


def table(p, q):
    """A law of `a` that depends on the token before: p after `a` and at the beginning, q after `b`."""

    def law(tokens):
        probability = q if tokens and tokens[-1] == 1 else p
        return [probability * 0.9, (1 - probability) * 0.9, 0.1]

    return TableLM(law, ["a", "b", "."], eos_token_id=2)


def test_exact_ratio(monkeypatch):
    policy, reference = table(0.8, 0.3), table(0.5, 0.5)
    monkeypatch.setattr("pyro_llm.rewards.formats.implicit._PROBE", "ab")
    reward = ImplicitReward(policy, reference, beta=0.5)
    state = policy.prompt("").append(torch.tensor([[0, 1, PAD], [0, 1, 0], [0, 1, 2], [PAD, PAD, PAD]]))
    steps = [math.log(0.8 / 0.5), math.log(0.2 / 0.5), math.log(0.3 / 0.5)]
    expected = [0.5 * sum(steps[:2]), 0.5 * sum(steps), 0.5 * sum(steps[:2]), 0.0]  # EOS is as likely under both
    assert reward(state).tolist() == pytest.approx(expected, abs=1e-12)


def test_two_models(tmp_path, written):
    tokenizer = byte_tokenizer(CHATML, merged=[".\n\n"])
    folders = [tmp_path / name for name in ("EurusPRM-Stage2", "Qwen2.5-Math-7B-Instruct")]
    models = [random_model(Qwen2ForCausalLM, "qwen2", tokenizer, seed=seed) for seed in (1, 2)]
    for folder, model in zip(folders, models, strict=True):
        publish(folder, model, tokenizer)
    prompt = tokenizer.encode(f"<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n")

    @torch.no_grad()
    def ratio(text, ended):
        ids = torch.tensor([prompt + tokenizer.encode(text) + [tokenizer.eos_token_id] * ended])
        per_token = [
            m(ids).logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None]).squeeze(2)[0, len(prompt) - 1 :]
            for m in models
        ]
        return 0.05 * (per_token[0] - per_token[1]).sum().item()

    expected = [ratio(TEXTS[0], False), ratio(TEXTS[1], False), ratio(TEXTS[2], False), ratio(TEXTS[2], True)]
    reward = load_reward(folders[0], reference=folders[1], beta=0.05)
    assert type(reward) is ImplicitReward
    assert reward(written()).tolist() == pytest.approx(expected, abs=1e-4)
    with run_scope() as scope:
        for rows, value in zip(([0], [0, 1], [0, 1, 5], [0, 1, 5, 6]), expected, strict=True):
            score = reward(written().lm.prompt(PROBLEM).append(torch.tensor(rows)))
            assert score.item() == pytest.approx(value, abs=1e-4)
        assert scope.cost.reward_tokens <= 2 * (len(prompt) + len(tokenizer.encode(TEXTS[2])) + 1)  # both, once
        assert scope.cost.lm_calls == scope.cost.lm_tokens_forwarded == 0
    with pytest.raises(RewardFormatError, match="one half of an implicit reward"):
        load_reward(folders[0])


def test_the_reference_is_placed_and_quantised_as_the_policy_is(tmp_path, written):
    tokenizer = byte_tokenizer(CHATML)
    folders = [tmp_path / name for name in ("EurusPRM-Stage2", "Qwen2.5-Math-7B-Instruct")]
    for seed, folder in enumerate(folders):
        publish(folder, random_model(Qwen2ForCausalLM, "qwen2", tokenizer, seed, tie_word_embeddings=False), tokenizer)
    names = ("model.embed_tokens", "model.layers.0", "model.norm", "model.rotary_emb", "lm_head")
    places = dict.fromkeys(names, "cpu") | {"model.layers.1": "disk"}
    spread = load_reward(folders[0], reference=folders[1], device_map=places)
    for lm in (spread.policy, spread.reference):
        assert lm.model.hf_device_map["model.layers.1"] == "disk"
    expected = load_reward(folders[0], reference=folders[1])(written())
    torch.testing.assert_close(spread(written()), expected, rtol=1e-5, atol=1e-6)
    missing = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    with pytest.raises(ModelFolderError, match=r"Qwen2\.5-Math-7B-Instruct.*bitsandbytes"):
        ImplicitReward.load(
            Checkpoint("own", str(folders[0]), placed={"quantization_config": missing}), reference=folders[1]
        )


def test_bad_pairs_and_options():
    tokenizer = byte_tokenizer(CHATML)
    lm = HFLanguageModel(random_model(Qwen2ForCausalLM, "qwen2", tokenizer), tokenizer)
    other = byte_tokenizer(CHATML, merged=["Step"])
    with pytest.raises(RewardFormatError, match="as different tokens"):
        ImplicitReward(lm, HFLanguageModel(random_model(Qwen2ForCausalLM, "qwen2", other), other))
    with pytest.raises(ValueError, match="beta"):
        ImplicitReward(lm, lm, beta=0.0)


def test_texts_that_neither_model_can_write(monkeypatch):
    monkeypatch.setattr("pyro_llm.rewards.formats.implicit._PROBE", "ab")
    lm = table(1.0, 1.0)
    with pytest.raises(RewardError, match="probability 0 to the text 'b'"):
        ImplicitReward(lm, table(1.0, 0.5))(lm.prompt("").append(torch.tensor([[1]])))
