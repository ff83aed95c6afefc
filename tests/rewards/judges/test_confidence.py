"""Verifier-free scores: exactly on a table, and on a random transformer from one forward pass."""

import math

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pyro_llm import zoo
from pyro_llm.errors import CapabilityError, OptionError, RewardError
from pyro_llm.lm import PAD, HFLanguageModel, TableLM
from pyro_llm.rewards import ConfidenceReward
from pyro_llm.run_scope import run_scope

LAWS = {False: [0.5, 0.3, 0.2], True: [0.1, 0.7, 0.2]}  # after `b`, or not
MEASURES = ["self_certainty", "mean_log_prob", "entropy"]


@pytest.fixture
def lm():
    return TableLM(lambda tokens: LAWS[tokens[-1:] == (1,)], ["a", "b", "."], eos_token_id=2)


def logit(probability):
    return math.log(probability / (1 - probability))


def expected(measure, tokens):
    laws = [LAWS[tokens[i - 1 : i] == [1]] for i in range(len(tokens))]
    if measure == "self_certainty":
        c = -sum(math.log(3 * p) for law in laws for p in law) / (3 * len(tokens))
        return logit(1 - math.exp(-c))
    if measure == "mean_log_prob":
        return logit(math.prod(law[token] for law, token in zip(laws, tokens, strict=True)) ** (1 / len(tokens)))
    return logit(math.exp(sum(p * math.log(p) for law in laws for p in law) / len(tokens)))


@pytest.mark.parametrize("measure", MEASURES)
def test_exact_values(lm, measure):
    rows = [[0, 1, 1, 2], [1, 0, PAD, PAD], [2, PAD, PAD, PAD], [0, 1, 1, 2]]
    values = [expected(measure, [token for token in row if token != PAD]) for row in rows]
    state = lm.prompt("").append(torch.tensor(rows))
    assert ConfidenceReward(measure)(state).tolist() == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_transformer_step_by_step(measure):
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    lm = HFLanguageModel(LlamaForCausalLM(config), AutoTokenizer.from_pretrained(zoo.path("abacus", "lm")))
    rows = torch.randint(8, 1000, (3, 9))
    prompt = lm.prompt("3 + 4").prompt_tokens
    with torch.no_grad():
        ids = torch.cat([prompt.expand(3, -1), rows], -1)
        log_probs = lm.model(ids).logits[:, len(prompt) - 1 : -1].double().log_softmax(-1)
    per_token = {
        "self_certainty": -(log_probs + math.log(1024)).mean(-1),
        "mean_log_prob": log_probs.gather(-1, rows.unsqueeze(-1)).squeeze(-1),
        "entropy": -(log_probs.exp() * log_probs).sum(-1),
    }[measure]
    reward = ConfidenceReward(measure)
    with run_scope() as scope:
        for length in (4, 9):
            c = per_token[:, :length].mean(-1)
            probability = {"self_certainty": 1 - (-c).exp(), "mean_log_prob": c.exp(), "entropy": (-c).exp()}[measure]
            score = reward(lm.prompt("3 + 4").append(rows[:, :length]))
            torch.testing.assert_close(score, probability.logit(), rtol=0, atol=1e-4)
        assert scope.cost.reward_tokens <= len(prompt) + rows.numel()  # each token once
        assert scope.cost.lm_tokens_forwarded == 0


def test_certain_and_uniform_laws():
    certain = TableLM(lambda tokens: [1.0, 0.0], ["a", "b"], eos_token_id=None)
    state = certain.prompt("").append(torch.tensor([[0, 0]]))
    assert [ConfidenceReward(measure)(state).item() for measure in MEASURES] == [math.inf] * 3
    uniform = TableLM(lambda tokens: [0.5, 0.5], ["a", "b"], eos_token_id=None)
    state = uniform.prompt("").append(torch.tensor([[0, 1]]))
    assert ConfidenceReward("self_certainty")(state).item() < -30  # no certainty at all: probability 0
    assert ConfidenceReward("entropy")(state).item() == pytest.approx(0.0, abs=1e-12)


def test_errors(lm, monkeypatch):
    with pytest.raises(OptionError, match="no measure of confidence 'perplexity'"):
        ConfidenceReward("perplexity")
    with pytest.raises(RewardError, match="Nothing has been written"):
        ConfidenceReward("entropy")(lm.prompt("").append(torch.tensor([[PAD], [0]])))
    monkeypatch.delattr("pyro_llm.lm.token_session.TokenSession.statistics")
    state = lm.prompt("").append(torch.tensor([[0]]))
    with pytest.raises(CapabilityError, match="take 'mean_log_prob'"):
        ConfidenceReward("self_certainty")(state)
    assert ConfidenceReward("mean_log_prob")(state).item() == pytest.approx(logit(0.5), abs=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_rows_take_turns_within_the_memory_budget(measure):
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    model, tokenizer = LlamaForCausalLM(config), AutoTokenizer.from_pretrained(zoo.path("abacus", "lm"))
    lm, bounded = HFLanguageModel(model, tokenizer), HFLanguageModel(model, tokenizer, memory_budget=1)
    rows, reward = torch.randint(8, 1000, (5, 9)), ConfidenceReward(measure)
    expected = reward(lm.prompt("3 + 4").append(rows))
    sizes = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(kwargs["input_ids"].shape[0]), with_kwargs=True
    )
    with run_scope() as scope:
        torch.testing.assert_close(reward(bounded.prompt("3 + 4").append(rows)), expected)
    hook.remove()
    assert set(sizes) == {1} and bounded.memory.stored_bytes() == 0
    assert scope.cost.peak_memory_bytes > 0 and scope.cost.lm_tokens_forwarded == 0 < scope.cost.reward_tokens
