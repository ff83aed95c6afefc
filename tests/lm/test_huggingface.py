"""Language models of transformers: prompts, texts, limits."""

import logging
import pickle

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from pyro_llm.errors import CapabilityError, ContextLengthError
from pyro_llm.lm import Decoding, HFLanguageModel, LanguageModel, SamplingKey

CHAT = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'][0] }} {{ message['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}a {% endif %}"
)


def adds_bos(tokenizer):
    """The tokenizer, made to begin every text with `<s>` as those of Llama and Gemma do."""
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    return tokenizer


def read(lm, state):
    return "".join(lm.tokenizer.convert_ids_to_tokens(state.prompt_tokens.tolist())).replace("Ġ", " ")


def test_it_is_a_language_model(llama_lm):
    assert isinstance(llama_lm, LanguageModel)
    assert llama_lm.vocabulary_size == 40
    assert llama_lm.context_length == 96
    assert llama_lm.eos_token_ids == (2,)
    assert llama_lm.device == torch.device("cpu")
    assert not llama_lm.model.training


def test_raw_prompts_get_the_special_tokens_of_the_tokenizer(llama_model, tokenizer):
    lm = HFLanguageModel(llama_model, tokenizer)
    assert read(lm, lm.prompt("ab 1")) == "ab 1"
    lm = HFLanguageModel(llama_model, adds_bos(tokenizer))
    assert read(lm, lm.prompt("ab 1")) == "<s>ab 1"
    assert lm.encode("ab") == [14, 15]  # none in texts that continue


def test_chat_templates_are_applied_and_double_no_special_token(llama_model, tokenizer):
    adds_bos(tokenizer).chat_template = CHAT
    lm = HFLanguageModel(llama_model, tokenizer)
    assert read(lm, lm.prompt("ab 1")) == "<s>u ab 1 a "
    lm = HFLanguageModel(llama_model, tokenizer, system_prompt="be brief")
    state = lm.prompt("ab 1")
    assert read(lm, state) == "<s>s be brief u ab 1 a "
    assert state.prompt == "ab 1"
    assert state.texts.item() == ""


def test_a_system_prompt_needs_a_chat_template(llama_model, tokenizer):
    with pytest.raises(CapabilityError, match="no chat template"):
        HFLanguageModel(llama_model, tokenizer, system_prompt="be brief")


def test_a_template_may_refuse_the_system_prompt(llama_model, tokenizer):
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}x"
    )
    assert HFLanguageModel(llama_model, tokenizer).prompt("a").prompt_tokens.tolist() == [37]
    with pytest.raises(CapabilityError, match="System role not supported"):
        HFLanguageModel(llama_model, tokenizer, system_prompt="be brief").prompt("a")


def test_end_of_sequence_tokens_are_those_of_config_and_tokenizer_together(llama_model, tokenizer):
    llama_model.generation_config.eos_token_id = [7, 9, 99]  # 99 is no token
    assert HFLanguageModel(llama_model, tokenizer).eos_token_ids == (2, 7, 9)


def test_nothing_else_of_the_generation_config_applies(llama_model, tokenizer):
    key, decoding = SamplingKey(0, torch.arange(20)), Decoding(6)

    def draw():
        lm = HFLanguageModel(llama_model, tokenizer)
        return lm.session().sample(lm.prompt("ab 1").expand((20,)).prefix(), decoding, key)

    plain = draw()
    llama_model.generation_config.update(temperature=0.1, top_k=1, top_p=0.1, max_new_tokens=2, do_sample=True)
    assert torch.equal(draw().tokens, plain.tokens)


def test_prompts_that_leave_no_room_are_refused_with_numbers(llama_lm):
    assert len(llama_lm.prompt("a" * 95).prompt_tokens) == 95
    with pytest.raises(ContextLengthError, match=r"has 96 tokens.*'llama' holds 96"):
        llama_lm.prompt("a" * 96)
    state = llama_lm.prompt("a" * 90).expand((2,))
    with pytest.raises(ContextLengthError, match="may need 97: 90 of the prompt, 0 written so far and 7 more"):
        state.session.sample(state.prefix(), Decoding(7), SamplingKey(0, torch.arange(2)))
    drawn = state.session.sample(state.prefix(), Decoding(6), SamplingKey(0, torch.arange(2)))
    assert drawn.tokens.shape == (2, 6)


@pytest.mark.parametrize("template", [None, CHAT])
def test_a_prompt_that_is_too_long_is_remarked_on_once(llama_model, tokenizer, template, caplog, monkeypatch):
    """By our error, not by transformers too."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokenizer.model_max_length, tokenizer.chat_template = 96, template
    with pytest.raises(ContextLengthError):
        HFLanguageModel(llama_model, tokenizer).prompt("a" * 200)
    assert not caplog.records


def test_the_context_can_be_filled_to_the_last_position(any_lm):
    state = any_lm.prompt("a" * 90).expand((3,))
    given = torch.tensor([[5, 6, 7, 8, 9, 10], [5, 6, -1, -1, -1, -1], [7, -1, -1, -1, -1, -1]])
    scored = any_lm.session().score(state.prefix(), given, Decoding(6))
    assert scored.isfinite().all()


def test_an_empty_prompt_without_bos_is_refused(llama_lm):
    with pytest.raises(ValueError, match="has no tokens"):
        llama_lm.prompt("")


def test_texts_are_the_bytes_of_their_tokens(llama_lm):
    ids = llama_lm.encode("tom has 4")
    assert llama_lm.decode(ids) == "tom has 4"
    assert llama_lm.decode([*ids, 2, 0]) == "tom has 4"
    state = llama_lm.prompt("x").append(torch.tensor([ids, [2] + [-1] * (len(ids) - 1)]))
    assert state.texts.tolist() == ["tom has 4", ""]
    assert state.finished.tolist() == [False, True]


def test_pickling_keeps_the_law(llama_lm):
    copy = pickle.loads(pickle.dumps(llama_lm))
    key = SamplingKey(0, torch.arange(4))
    drawn = [
        lm.session().sample(lm.prompt("ab 1").expand((4,)).prefix(), Decoding(4, stop="a"), key)
        for lm in (llama_lm, copy)
    ]
    assert torch.equal(drawn[0].tokens, drawn[1].tokens)
    assert torch.equal(drawn[0].log_prob, drawn[1].log_prob)


def test_bfloat16_models_sum_in_float64(llama_model, tokenizer):
    lm = HFLanguageModel(llama_model.to(torch.bfloat16), tokenizer)
    state = lm.prompt("ab 1").expand((4,))
    drawn = state.session.sample(state.prefix(), Decoding(6), SamplingKey(0, torch.arange(4)))
    assert drawn.log_prob.dtype == torch.float64
    assert state.session.next_log_probs(state.prefix(), Decoding(1)).dtype == torch.float32
    assert torch.equal(state.session.score(state.prefix(), drawn.tokens, Decoding(6)), drawn.log_prob)


def test_repr_says_what_it_is(llama_lm):
    text = repr(llama_lm)
    for part in ("'llama'", "LlamaForCausalLM", "vocabulary_size=40", "context_length=96", "float32", "'cpu'"):
        assert part in text
