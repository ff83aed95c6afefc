"""`ProcessReward` against one forward pass a text, on a small random model with the embedded tokenizer."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForTokenClassification

from pyro_llm import zoo
from pyro_llm.errors import ContextLengthError, ModelFolderError, RewardError
from pyro_llm.lm import PAD, TableLM
from pyro_llm.rewards import ProcessReward, TRLProcessReward
from pyro_llm.run_scope import run_scope

EOS = 4
PROBLEM = "Mia has 3 apples."


def classifier(num_labels=2, dtype=torch.float32):
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=48, num_labels=num_labels, initializer_range=0.3,
    )  # fmt: skip
    return LlamaForTokenClassification(config).to(dtype)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(zoo.path("abacus", "reward"))


@pytest.fixture
def reward(tokenizer):
    return ProcessReward(classifier(), tokenizer, name="random", batch_size=2)


@pytest.fixture
def state():
    lm = TableLM(lambda tokens: [0.2] * 5, ["3 + 4 = 7", "\n", "7 * 2 = 14", "answer: 14", "."], eos_token_id=EOS)
    rows = [[0, 1, 2, 1], [0, PAD, PAD, PAD], [0, 1, 3, EOS], [0, 1, 3, PAD], [PAD] * 4, [0, 1, 2, 1]]
    return lm.prompt(f" {PROBLEM} ").append(torch.tensor(rows))


@torch.no_grad()
def alone(reward, text, eos=False):
    """The score of one text in a batch of its own, without padding."""
    tokens = reward.tokenizer(f"{PROBLEM}\n{text}")["input_ids"] + [reward.tokenizer.eos_token_id] * eos
    logits = reward.model(input_ids=torch.tensor([tokens])).logits[0, -1]
    return (logits[1] - logits[0]).item()


def test_scores_are_those_of_each_text_alone(reward, state):
    log_odds = reward(state)
    first = "3 + 4 = 7\n"
    expected = [
        alone(reward, first + "7 * 2 = 14\n"),
        alone(reward, "3 + 4 = 7"),
        alone(reward, first + "answer: 14", eos=True),
        alone(reward, first + "answer: 14"),
        alone(reward, ""),
        alone(reward, first + "7 * 2 = 14\n"),
    ]
    assert log_odds.dtype == torch.float32
    torch.testing.assert_close(log_odds, torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert len({round(value, 3) for value in expected}) == 5  # they do differ, EOS or not included


def test_cost_and_batches_of_distinct_texts(reward, state):
    with run_scope() as scope:
        reward(state)
        rows = [tuple(reward.encode(item)) for item in set(reward.items(state))]
        assert scope.cost.reward_calls == 3  # five distinct texts, two a batch
        distinct = {row[:length] for row in rows for length in range(1, len(row) + 1)}
        assert len(distinct) <= scope.cost.reward_tokens < sum(map(len, rows))  # from what batches before have read
        reward(state.expand([7, 6]))
        assert scope.cost.reward_calls == 3
    with run_scope() as again:
        reward(state)
    assert again.cost == scope.cost, "the first run is counted as others are"


def test_half_precision_leaves_as_fp32_log_odds(tokenizer, state):
    model = classifier(dtype=torch.bfloat16)
    with torch.no_grad():
        model.score.bias[:] = torch.tensor([-6.0, 6.0])  # probabilities that round to 1 in bf16
    log_odds = ProcessReward(model, tokenizer)(state)
    assert log_odds.dtype == torch.float32
    assert log_odds.isfinite().all()
    assert len(log_odds.unique()) > 1


@torch.no_grad()
@pytest.mark.parametrize("reward_class", [ProcessReward, TRLProcessReward])
def test_the_head_of_a_half_precision_model_is_computed_in_fp32(tokenizer, state, reward_class):
    model, seen = classifier(dtype=torch.bfloat16), []
    reward = reward_class(model, tokenizer)
    model.score.register_forward_hook(lambda head, given, output: seen.append((given[0], output)))
    scores = reward(state)
    for hidden, output in seen:
        assert hidden.dtype == torch.bfloat16
        linear = torch.nn.functional.linear(hidden.float(), model.score.weight.float(), model.score.bias.float())
        assert output.dtype == torch.float32 and output.equal(linear)
    outputs = torch.cat([output.reshape(-1, 2) for _, output in seen])
    assert torch.isin(scores, outputs[:, 1] - outputs[:, 0]).all()
    assert not scores.equal(scores.bfloat16().float()), "nothing is rounded to bf16 on the way"


def test_without_a_chat_template_the_problem_is_read_as_it_is(reward, state):
    expected = reward(state)
    plain = type(reward.tokenizer).from_pretrained(zoo.path("abacus", "reward"))
    plain.chat_template = None
    unstripped = ProcessReward(reward.model, plain)
    assert unstripped.encode(unstripped.items(state)[1]) == plain(f" {PROBLEM} 3 + 4 = 7")["input_ids"]
    assert not unstripped(state).equal(expected)


def test_dropout_is_off(tokenizer, state):
    reward = ProcessReward(classifier().train(), tokenizer)
    assert reward(state).equal(reward(state))
    assert not reward.model.training


def test_bad_models_and_texts(reward, state, tokenizer):
    with pytest.raises(ModelFolderError, match="3 labels"):
        ProcessReward(classifier(num_labels=3), tokenizer)
    with pytest.raises(ValueError, match="batch_size"):
        ProcessReward(classifier(), tokenizer, batch_size=0)
    with pytest.raises(ContextLengthError, match="at most 48 tokens"):
        reward(state.append(torch.tensor([2, 2, 2, 2, 2])))
    with torch.no_grad():
        reward.model.score.bias[1] = torch.nan
    with pytest.raises(RewardError, match="gives NaN for the text"):
        reward(state)
    reward.tokenizer.chat_template, template = None, reward.tokenizer.chat_template
    try:
        with pytest.raises(RewardError, match="empty"):
            reward(state.lm.prompt(""))
    finally:
        reward.tokenizer.chat_template = template


def test_special_tokens_come_from_the_template_or_from_the_tokenizer_and_not_from_both(reward, state):
    tokenizer = AutoTokenizer.from_pretrained(zoo.path("abacus", "reward"))
    beginning = TemplateProcessing(single="<|pad|> $A", special_tokens=[("<|pad|>", 1)])
    tokenizer.backend_tokenizer.post_processor = beginning
    judge = ProcessReward(reward.model, tokenizer)
    solution = judge.items(state)[0]
    assert judge.encode(solution) == reward.encode(solution)
    tokenizer.chat_template = None
    assert judge.encode(solution)[0] == 1
