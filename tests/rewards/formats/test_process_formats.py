"""Published process reward models: each against its recipe, computed with plain transformers."""

import math

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch.nn import functional as F
from transformers import (
    LlamaForCausalLM,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
    Qwen2Model,
)

from pyro_llm import load_reward
from pyro_llm.errors import ModelFolderError, OptionError, RewardFormatError
from pyro_llm.rewards import (
    MathShepherdReward,
    QwenProcessReward,
    RLHFlowReward,
    SkyworkProcessReward,
    TRLProcessReward,
)
from pyro_llm.run_scope import run_scope

from .conftest import CHATML, LLAMA3, PROBLEM, STEPS, byte_tokenizer, publish, random_model, random_weights

HEAD = {"score__0__weight": (32, 32), "score__0__bias": (32,), "score__2__weight": (2, 32), "score__2__bias": (2,)}
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def log_odds(probability):
    return math.log(probability) - math.log1p(-probability)


def qwen(folder):
    tokenizer, weights = byte_tokenizer(CHATML), random_weights(**HEAD)
    model = random_model(Qwen2Model, "qwen2", tokenizer)
    auto_map = {"AutoConfig": "configuration_qwen2_rm.Qwen2RMConfig", "AutoModel": "modeling_qwen2_rm.Qwen2ForPRM"}
    publish(folder, model, tokenizer, weights, architectures=["Qwen2ForProcessRewardModel"], auto_map=auto_map)

    def recipe(steps):  # of the model card
        content = "<extra_0>".join(steps) + "<extra_0>"
        text = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{PROBLEM}<|im_end|>\n"
        ids = torch.tensor([tokenizer.encode(text + f"<|im_start|>assistant\n{content}<|im_end|>\n")])
        hidden = model(ids).last_hidden_state
        hidden = F.linear(hidden, weights["score.0.weight"], weights["score.0.bias"]).relu()
        logits = F.linear(hidden, weights["score.2.weight"], weights["score.2.bias"])
        return logits.softmax(-1)[ids == tokenizer.convert_tokens_to_ids("<extra_0>")][:, 1]

    return QwenProcessReward, "\n\n", recipe


def skywork(folder):
    tokenizer = byte_tokenizer(CHATML, bos="<bos>")
    weights = random_weights(v_head__summary__weight=(1, 32), v_head__summary__bias=(1,))
    model = random_model(Qwen2ForCausalLM, "qwen2", tokenizer, tie_word_embeddings=False)
    publish(folder, model, tokenizer, weights, architectures=["Qwen2ForPrmModel"])

    def recipe(steps):  # of skywork-o1-prm-inference
        ids = tokenizer.encode("<bos>" + PROBLEM + "\n")
        ends = []
        for step in steps:
            ids += [*tokenizer.encode(step), tokenizer.encode("\n")[-1]]
            ends.append(len(ids) - 1)
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        value = F.linear(hidden, weights["v_head.summary.weight"], weights["v_head.summary.bias"]).squeeze(-1)
        return value.sigmoid()[0, ends]

    return SkyworkProcessReward, "\n", recipe


def trl(folder):
    tokenizer = byte_tokenizer(bos="<bos>")
    model = random_model(Qwen2ForTokenClassification, "qwen2", tokenizer)
    with torch.no_grad():
        model.score.bias[:] = torch.tensor([0.3, -0.2])
    publish(folder, model, tokenizer)

    def recipe(steps):  # of PRMTrainer.tokenize_row
        prompt = [tokenizer.bos_token_id, *tokenizer(PROBLEM, add_special_tokens=False)["input_ids"]]
        separator = tokenizer.encode("\n", add_special_tokens=False)
        completions = [tokenizer(step, add_special_tokens=False)["input_ids"] + separator for step in steps]
        ends = torch.tensor([len(prompt) - 1] + [len(completion) for completion in completions]).cumsum(0)[1:]
        logits = model(torch.tensor([sum(completions, prompt)])).logits
        return logits.softmax(-1)[0, ends, 1]

    return TRLProcessReward, "\n", recipe


def math_shepherd(folder):
    tokenizer = byte_tokenizer(bos="<bos>", merged=[" ки", " -"])
    model = random_model(MistralForCausalLM, "mistral", tokenizer, tie_word_embeddings=False)
    publish(folder, model, tokenizer)

    def recipe(steps):  # of the model card
        right, wrong = tokenizer.encode("+ -")
        tag = tokenizer.encode(" ки")[-1]
        ids = torch.tensor([tokenizer.encode(f"{PROBLEM} " + " ки\n".join(steps) + " ки")])
        scores = model(ids).logits[:, :, [right, wrong]].softmax(-1)[:, :, 0]
        return scores[ids == tag]

    return MathShepherdReward, "\n", recipe


def rlhflow(folder):
    tokenizer = byte_tokenizer(LLAMA3)
    model = random_model(LlamaForCausalLM, "llama", tokenizer, tie_word_embeddings=True)
    publish(folder, model, tokenizer)

    def recipe(steps):  # of prm_evaluate.py
        candidates = [tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]]
        conversation, scores = [], []
        for number, step in enumerate(steps):
            content = PROBLEM + " " + step if number == 0 else step
            conversation += [{"role": "user", "content": content}, {"role": "assistant", "content": "+"}]
            ids = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True)["input_ids"]
            scores.append(model(ids).logits[:, -3, candidates].softmax(-1)[0, 0])
        return torch.stack(scores)

    return RLHFlowReward, "\n\n", recipe


FORMATS = {
    "qwen-prm": ("Qwen2.5-Math-PRM-7B", qwen),
    "skywork-prm": ("Skywork-o1-Open-PRM", skywork),
    "trl": ("Qwen2-0.5B-Reward", trl),
    "math-shepherd": ("math-shepherd-mistral-7b-prm", math_shepherd),
    "rlhflow": ("Llama3.1-8B-PRM-Deepseek-Data", rlhflow),
}


@pytest.fixture(scope="module", params=FORMATS)
def published(request, tmp_path_factory):
    folder_name, make = FORMATS[request.param]
    folder = tmp_path_factory.mktemp(request.param) / folder_name
    folder.mkdir()
    return folder, *make(folder)


@torch.no_grad()
def test_scores_are_those_of_the_recipe(published, written):
    folder, reward_class, separator, recipe = published
    reward = load_reward(folder)
    assert type(reward) is reward_class
    expected = [log_odds(recipe(STEPS[:count])[-1].item()) for count in (1, 2, 3, 3)]
    assert len({round(value, 3) for value in expected}) == 3
    state = written(separator)
    torch.testing.assert_close(reward(state), torch.tensor(expected), rtol=0, atol=1e-4)
    with run_scope() as scope:  # step by step, with keys and values kept
        for count, tokens in ((1, [0]), (2, [0, 1]), (3, [0, 1, 5])):
            score = reward(state.lm.prompt(PROBLEM).append(torch.tensor(tokens)))
            assert score.item() == pytest.approx(expected[count - 1], abs=1e-4)
    whole = len(reward.encode(list(reward.parts(reward.items(state)[2]))[-1]))
    assert scope.cost.reward_tokens <= whole + 8  # what a template writes after a step is read for each


@torch.no_grad()
def test_all_steps_aggregate(published, written):
    folder, _, separator, recipe = published
    probabilities = recipe(STEPS).double()
    expected = {
        "product": probabilities.prod(),
        "min": probabilities.min(),
        "mean": probabilities.mean(),
        "model": recipe([separator.join(STEPS)])[0],
    }
    for aggregation, probability in expected.items():
        score = load_reward(folder, aggregation=aggregation)(written(separator))
        assert score[2].item() == pytest.approx(log_odds(probability.item()), abs=1e-4), aggregation


@torch.no_grad()
def test_half_precision_saturates_nothing(published, written):
    folder, _, separator, _ = published
    expected = load_reward(folder)(written(separator))
    reward = load_reward(folder, dtype="bfloat16")
    assert reward.model.dtype == torch.bfloat16
    for parameter in ("score.2.bias", "score.bias", "v_head.summary.bias"):
        if parameter in dict(reward.model.named_parameters()):
            reward.model.get_parameter(parameter)[-1] += 20.0  # sigmoid rounds to 1 in bf16, and in fp32 nearly
            expected = expected + 20.0
    scores = reward(written(separator))
    assert scores.dtype == torch.float32 and scores.isfinite().all()
    torch.testing.assert_close(scores, expected, rtol=0.05, atol=0.35)
    assert len(scores.unique()) == 3


@pytest.fixture
def letters():
    """A tokenizer that knows a few letters, and none of the tokens that any format needs."""
    backend = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>")


def test_tokenizers_without_what_a_format_needs(published, letters):
    folder, reward_class, _, _ = published
    model = load_reward(folder).model
    missing = {
        QwenProcessReward: "no single token '<extra_0>'",
        SkyworkProcessReward: r"no single token '\\n'",
        TRLProcessReward: r"no tokens for the step separator '\\n'",
        MathShepherdReward: "no single token for the step tag 'ки'",
        RLHFlowReward: "no chat template",
    }
    with pytest.raises(RewardFormatError, match=missing[reward_class]):
        reward_class(model, letters)
    with pytest.raises(OptionError, match="no aggregation of step scores 'sum'"):
        load_reward(folder, aggregation="sum")
    with pytest.raises(OptionError, match="step_separator is empty"):
        load_reward(folder, step_separator="")
    with pytest.raises(OptionError, match=r"no option 'agregation'; there are aggregation, batch_size"):
        load_reward(folder, agregation="min")


def test_models_that_do_not_fit_a_format(tmp_path, letters):
    tokenizer = byte_tokenizer(CHATML.replace("m.content", "' ' + m.content"))
    model = random_model(LlamaForCausalLM, "llama", tokenizer)
    with pytest.raises(RewardFormatError, match="right after the opening"):
        RLHFlowReward(model, tokenizer)
    three = random_model(Qwen2ForTokenClassification, "qwen2", tokenizer, num_labels=3)
    with pytest.raises(ModelFolderError, match="3 labels"):
        TRLProcessReward(three, tokenizer)
    publish(tmp_path, model, letters)
    with pytest.raises(RewardFormatError, match=r"reads '\+ -' as"):
        load_reward(tmp_path, format="math-shepherd")
    with pytest.raises(ModelFolderError, match="no weights for score"):
        load_reward(tmp_path, format="qwen-prm")


@torch.no_grad()
def test_options_of_formats(tmp_path, written):
    state = written("\n")
    reward_class, _, _ = trl(tmp_path)
    reward = load_reward(tmp_path, problem_separator="\n", step_separator="\n")
    assert type(reward) is reward_class
    ids = torch.tensor([reward.tokenizer.encode("<bos>" + "\n".join([PROBLEM, *STEPS[:2]]) + "\n")])  # TRL's script
    logits = reward.model(ids).logits[0, -1]
    assert reward(state)[1].item() == pytest.approx((logits[1] - logits[0]).item(), abs=1e-4)

    (tmp_path / "prm").mkdir()
    qwen(tmp_path / "prm")
    reward = load_reward(tmp_path / "prm", system_prompt="Think.", step_separator="\n")
    first, both = (reward.tokenizer.decode(reward.encode(reward.parts(item)[0])) for item in reward.items(state)[:2])
    begin = f"<|im_start|>system\nThink.<|im_end|>\n<|im_start|>user\n{PROBLEM}<|im_end|>\n<|im_start|>assistant\n"
    assert first == f"{begin}{STEPS[0]}<extra_0>"
    assert both == f"{begin}{STEPS[0]}<extra_0>{STEPS[1]}<extra_0>"
