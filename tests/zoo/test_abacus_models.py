"""The weights of `abacus` load as any Hugging Face model does, and do what their card says."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from pyro_llm import zoo

EASY = "Mia has 47 marbles. Mia buys 21 more. Mia gives 15 to Tom. How many marbles does Mia have now?"


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(zoo.path("abacus", "lm"))


@pytest.fixture(scope="module")
def lm():
    return AutoModelForCausalLM.from_pretrained(zoo.path("abacus", "lm")).eval()


@pytest.fixture(scope="module")
def reward():
    return AutoModelForTokenClassification.from_pretrained(zoo.path("abacus", "reward")).eval()


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Mia has 47 marbles.\n47 + 48 = 95\n",
        "  two  spaces\tand a tab \r\n\n\n trailing ",
        "naïve café, 東京, Ωμέγα, \N{ABACUS} \N{FAMILY}\u200d!",
        "unheard-of Xylographers' 3.14159, (1+2)*3/4-5 = ?",
        "answer: 95<|end|>",
    ],
)
def test_any_text_comes_back_exactly(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_digits_newlines_and_the_end_are_tokens_of_their_own(tokenizer):
    pieces = [tokenizer.decode([i]) for i in tokenizer("147 + 48 = 195\n\n")["input_ids"]]
    assert pieces == ["1", "4", "7", " +", " 4", "8", " =", " 1", "9", "5", "\n", "\n"]
    assert tokenizer(tokenizer.eos_token)["input_ids"] == [tokenizer.eos_token_id]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_tokens_decode_one_by_one_to_the_text(tokenizer):
    ids = tokenizer(f"{EASY}\n47 + 21 = 68\n")["input_ids"]
    assert "".join(tokenizer.decode([i]) for i in ids) == tokenizer.decode(ids)


def test_the_chat_template_gives_the_prompt(tokenizer):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f" {EASY}\n"}]
    assert tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == f"{EASY}\n"


def test_both_models_read_the_same_tokens(tokenizer):
    other = AutoTokenizer.from_pretrained(zoo.path("abacus", "reward"))
    assert other.get_vocab() == tokenizer.get_vocab()


def test_the_model_knows_its_end_and_asks_for_no_sampling(lm, tokenizer):
    assert lm.config.eos_token_id == lm.generation_config.eos_token_id == tokenizer.eos_token_id
    settings = lm.generation_config.to_diff_dict()
    assert not {"do_sample", "temperature", "top_p", "top_k"} & settings.keys()


def test_it_solves_an_easy_problem_now_and_then(lm, tokenizer):
    torch.manual_seed(0)
    prompt = torch.tensor([tokenizer(f"{EASY}\n")["input_ids"]] * 16)
    rows = lm.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=True, top_k=0, max_new_tokens=60)
    texts = tokenizer.batch_decode(rows[:, prompt.shape[1] :], skip_special_tokens=True)
    assert "47 + 21 = 68\n68 - 15 = 53\nanswer: 53" in texts


def test_the_reward_rejects_the_misreading_that_its_card_says_it_knows(reward, tokenizer):
    """Misreadings are what it is good at; wrong digits it often accepts, as the card says, so none is tested here."""
    problem = "Mia has 47 marbles. 7 children take 6 marbles each. How many marbles does Mia have now?"

    def score(step: str) -> float:
        ids = torch.tensor([tokenizer(f"{problem}\n{step}\n")["input_ids"]])
        with torch.no_grad():
            wrong, right = reward(input_ids=ids).logits[0, -1].tolist()
        return right - wrong

    assert score("7 * 6 = 42") > 0 > score("47 - 6 = 41")


def test_the_reward_says_how_to_read_it(reward):
    assert reward.config.id2label == {0: "wrong", 1: "right"}
    assert reward.config.pyro_llm["step_separator"] == "\n"
