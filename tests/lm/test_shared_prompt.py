"""Attention to a prompt that is stored once: its numbers, for which models it is used, and its plain counterpart."""

import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    JambaConfig,
    JambaForCausalLM,
    Lfm2Config,
    Lfm2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from pyro_llm.lm import PAD, Decoding, HFLanguageModel, SamplingKey
from pyro_llm.lm.kv.attention import SharedPromptPass
from pyro_llm.lm.kv.layers import LayerKind, RowCache
from pyro_llm.lm.kv.prompts import PromptBlock, spans
from pyro_llm.lm.kv.rows import KVRows
from pyro_llm.lm.kv.slots import SlotBuffer
from pyro_llm.run_scope import run_scope

SIZES = {
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
OTHERS = {
    "soft-capping": lambda: (
        Gemma2ForCausalLM,
        Gemma2Config(**SIZES, num_hidden_layers=2, head_dim=8, sliding_window=6),
    ),
    "sinks": lambda: (
        GptOssForCausalLM,
        GptOssConfig(
            **SIZES, num_hidden_layers=2, head_dim=8, sliding_window=6, num_local_experts=2, num_experts_per_tok=1
        ),
    ),
    "eager": lambda: (LlamaForCausalLM, LlamaConfig(**SIZES, num_hidden_layers=2, attn_implementation="eager")),
    "short convolutions": lambda: (
        Lfm2ForCausalLM,
        Lfm2Config(**SIZES, num_hidden_layers=3, layer_types=["conv", "full_attention", "conv"]),
    ),
    "passes that start anew": lambda: (
        JambaForCausalLM,
        JambaConfig(
            **SIZES,
            num_hidden_layers=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            mamba_d_state=4,
            mamba_dt_rank=4,
            num_experts=1,
            num_experts_per_tok=1,
        ),
    ),
}
PLAIN = ("soft-capping", "sinks", "eager")


def rows_of_two_prompts(window, generator, starts=(0, 2, 5, 1, 0), used=6, new=1, heads=2):
    """Random keys and values: two prompts of 7 and 4 tokens, five ragged rows, and the same rows with all in a row."""

    def random(*shape):
        return torch.randn(*shape, 8, generator=generator)

    prompts = [PromptBlock({0: random(heads, length)}, {0: random(heads, length)}, length) for length in (7, 4)]
    own = tuple(SlotBuffer(random(5, heads, used + new), filled=used) for _ in range(2))
    cache = RowCache([LayerKind(attends=True, window=window)])
    cache.row_layers[0].hold(*own, used)
    of_rows = [prompts[0]] * 2 + [prompts[1]] * 3
    lengths = torch.tensor([block.length + used - start for block, start in zip(of_rows, starts, strict=True)])
    rows = KVRows(cache, torch.tensor(starts), lengths, spans(of_rows), max(starts))
    whole = [
        tuple(
            torch.cat([apart[0], slots.slots[row, :, starts[row] :]], dim=1)
            for apart, slots in zip((block.keys, block.values), own, strict=True)
        )
        for row, block in enumerate(of_rows)
    ]
    return rows, own, whole


@pytest.mark.parametrize("window", [None, 1, 3, 6, 9, 11, 13, 40])
@pytest.mark.parametrize("new", [1, 4])
@pytest.mark.parametrize("largest", [1 << 24, 200])
def test_it_is_attention_over_prompt_and_slots(window, new, largest, monkeypatch):
    """Windows that end in the row, in the prompt for some rows only, or before it; grouped heads; several passes."""
    monkeypatch.setattr("pyro_llm.lm.kv.attention._LARGEST_SCORES", largest)
    generator = torch.Generator().manual_seed(0)
    rows, (keys, values), whole = rows_of_two_prompts(window, generator, new=new)
    query = 3 * torch.randn(5, 6, new, 8, generator=generator)
    result = SharedPromptPass(rows, new).attend(0, query, keys.slots, values.slots, scaling=0.7)
    for row, (key, value) in enumerate(whole):
        position = torch.arange(key.shape[1])
        mine = position[-new:].unsqueeze(-1)
        allowed = (position <= mine) & (position > mine - (window or 1000))
        expected = torch.nn.functional.scaled_dot_product_attention(
            query[row], key.repeat_interleave(3, 0), value.repeat_interleave(3, 0), attn_mask=allowed, scale=0.7
        )
        torch.testing.assert_close(result[row], expected, rtol=0, atol=2e-6)


def test_large_scores_do_not_overflow():
    rows, (keys, values), _ = rows_of_two_prompts(None, torch.Generator().manual_seed(0))
    query = torch.randn(5, 2, 1, 8, generator=torch.Generator().manual_seed(1))
    result = SharedPromptPass(rows, 1).attend(0, query, keys.slots, values.slots, scaling=1e4)
    assert result.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    rows, (keys, values), _ = rows_of_two_prompts(5, torch.Generator().manual_seed(0))
    query = torch.randn(5, 4, 1, 8, generator=torch.Generator().manual_seed(1))
    exact = SharedPromptPass(rows, 1).attend(0, query, keys.slots, values.slots, scaling=0.5)
    for span in rows.prompts:
        for held in (span.block.keys, span.block.values):
            held[0] = held[0].to(dtype)
    half = SharedPromptPass(rows, 1).attend(
        0, query.to(dtype), keys.slots.to(dtype), values.slots.to(dtype), scaling=0.5
    )
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.05)


def test_it_is_used_where_the_model_allows_it(any_lm, tokenizer):
    lm = HFLanguageModel(any_lm.model, tokenizer)
    assert not lm._cached_model.shares_prompts, "no prompt has been read"
    lm.session().next_log_probs(lm.prompt("tom").expand((2,)).prefix(), Decoding(1))
    assert lm._cached_model.shares_prompts


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_equal_fresh_passes(name, tokenizer, fresh_log_probs):
    """Attention that asks for more has its prompt in every row; states that cannot be cut back are never padded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind, config = OTHERS[name]()
        lm = HFLanguageModel(kind._from_config(config).eval(), tokenizer, name=name)
    state, session = lm.prompt("tom has 4 pens").expand((4,)), lm.session()
    generator = torch.Generator().manual_seed(0)
    for step in range(3):
        drawn = session.sample(state.prefix(), Decoding(5, stop=("a", "5")), SamplingKey(step, torch.arange(4))).tokens
        given = torch.randint(3, 40, (4, 5), generator=generator)
        given = torch.where(torch.arange(5) < torch.tensor([[5], [1], [0], [3]]), given, PAD)
        state = state.append(torch.where((torch.arange(4) % 2 == step % 2).unsqueeze(-1), drawn, given))
        state = state.finish(torch.zeros(4, dtype=torch.bool))
        state = state.map_tensors(lambda tensor, _: tensor[torch.tensor([0, 1, 3, 3])])
        ended = torch.isin(state.prefix().tokens, torch.tensor(lm.eos_token_ids)).any(-1)
        live = (~ended).nonzero().squeeze(-1)
        law = session.next_log_probs(state.prefix(live), Decoding(1))
        for row, stated in zip(state.prefix(live).tokens.tolist(), law, strict=True):
            text = state.prompt_tokens.tolist() + [token for token in row if token != PAD]
            torch.testing.assert_close(stated, fresh_log_probs(lm, text)[-1], rtol=0, atol=1e-4)
    assert lm._cached_model.shares_prompts == (name not in PLAIN)


def test_the_model_is_as_before_for_others(llama_model, tokenizer):
    """Padding masks, other caches and generation go where they went."""
    tokens, mask = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 5]]), torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])

    def outcomes():
        with torch.no_grad():
            logits = llama_model(tokens, attention_mask=mask).logits[mask.bool()]
            return logits, llama_model.generate(tokens, attention_mask=mask, max_new_tokens=4, do_sample=False)

    before = outcomes()
    HFLanguageModel(llama_model, tokenizer)
    for old, new in zip(before, outcomes(), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize(("name", "passes"), [("short convolutions", 1), ("passes that start anew", 4)])
def test_recurrent_models_are_read_in_as_few_passes_as_they_allow(name, passes, tokenizer):
    kind, config = OTHERS[name]()
    lm = HFLanguageModel(kind._from_config(config).eval(), tokenizer, name=name)
    with run_scope() as scope:
        state = lm.prompt("tom").expand((2,))
        lm.session().score(state.prefix(), torch.tensor([[5, 6, 7, 8], [9, 9, 9, 9]]), Decoding(4))
    assert scope.cost.lm_calls == 1 + passes
