"""What the key-value runtime reads, how often, and what it refuses."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import MambaConfig, MambaForCausalLM, MiniMaxConfig, MiniMaxForCausalLM

from pyro_llm.errors import CapabilityError
from pyro_llm.lm import PAD, Decoding, HFLanguageModel, SamplingKey
from pyro_llm.lm.kv.rows import KVRows, take_rows
from pyro_llm.lm.kv.slots import SlotBuffer
from pyro_llm.lm.prefix_cache import KEPT_PROMPTS, KEPT_STEPS
from pyro_llm.run_scope import run_scope

PROMPT = "tom has 4 pens"  # 14 tokens


def sample(state, decoding, seed=0):
    rows = state.finished.numel()
    return state.session.sample(state.prefix(), decoding, SamplingKey(seed, torch.arange(rows)))


@pytest.fixture
def endless(llama_model, tokenizer):
    """A model that all but never ends a text, so that costs are known beforehand."""
    with torch.no_grad():
        llama_model.lm_head.weight[2] = 0.0
        llama_model.model.norm.weight.mul_(0.2)
    llama_model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    lm = HFLanguageModel(llama_model, tokenizer, name="endless")
    assert lm.eos_token_ids == ()
    return lm


class TestCost:
    def test_one_prefill_then_one_pass_a_token_for_all_rows(self, endless):
        with run_scope() as scope:
            state = endless.prompt(PROMPT).expand((8,))
            for step in range(3):
                state = state.append(sample(state, Decoding(5), step).tokens)
                # resampling and leaving rows out costs nothing: their pending logits are there
                state = state.map_tensors(lambda tensor, _: tensor[[0, 0, 1, 3, 3, 3]])
                assert scope.cost.lm_calls == 1 + 5 * (step + 1)
        assert scope.cost.lm_tokens_sampled == 5 * (8 + 6 + 6)
        assert scope.cost.lm_tokens_forwarded == 14 + 5 * (8 + 6 + 6)

    def test_what_follows_a_drawn_text_is_free(self, endless):
        with run_scope() as scope:
            state = endless.prompt(PROMPT).expand((4,))
            drawn = sample(state, Decoding(5))
            spent = (scope.cost.lm_calls, scope.cost.lm_tokens_forwarded)
            again = endless.prompt(PROMPT).expand((4,))  # as a replay builds it
            again.append(drawn.tokens).session.next_log_probs(again.append(drawn.tokens).prefix(), Decoding(1))
            assert (scope.cost.lm_calls, scope.cost.lm_tokens_forwarded) == spent

    def test_padding_is_not_counted_and_clones_are_read_once(self, endless):
        with run_scope() as scope:
            state = endless.prompt(PROMPT).expand((4,))
            given = torch.tensor([[5, 6, 7], [5, 6, 7], [8, PAD, PAD], [PAD, PAD, PAD]])
            state.session.score(state.prefix(), given, Decoding(3))
            assert scope.cost.lm_calls == 2
            assert scope.cost.lm_tokens_forwarded == 14 + 3 + 1
            assert scope.cost.lm_tokens_sampled == 0

    def test_only_what_is_missing_is_read(self, endless):
        with run_scope() as scope:
            state = endless.prompt(PROMPT).expand((3,))
            state.session.next_log_probs(state.append(torch.tensor([[5, 6], [5, 6], [7, PAD]])).prefix(), Decoding(1))
            assert scope.cost.lm_tokens_forwarded == 14 + 2 + 1
            longer = state.append(torch.tensor([[5, 6, 8, 9], [5, 6, PAD, PAD], [7, 7, 7, PAD]]))
            longer.session.next_log_probs(longer.prefix(), Decoding(1))
            assert scope.cost.lm_tokens_forwarded == 14 + 2 + 1 + 2 + 2
            assert scope.cost.lm_calls == 3

    def test_no_pass_is_made_for_rows_that_all_end_with_eos(self, llama_model, tokenizer):
        llama_model.generation_config.eos_token_id = list(range(len(tokenizer)))
        lm = HFLanguageModel(llama_model, tokenizer)
        with run_scope() as scope:
            state = lm.prompt(PROMPT).expand((3,))
            drawn = sample(state, Decoding(5))
        assert (drawn.tokens[:, 1:] == PAD).all()
        assert scope.cost.lm_calls == 1

    def test_nothing_outlives_its_run(self, endless):
        for _ in range(2):
            with run_scope() as scope:
                state = endless.prompt(PROMPT).expand((2,))
                sample(state, Decoding(3))
            assert scope.cost.lm_tokens_forwarded == 14 + 6


def test_old_batches_and_prompts_are_forgotten(endless):
    session = endless.session()
    for number in range(KEPT_PROMPTS + 3):
        prefix = endless.prompt(f"prompt {number}").expand((2,)).prefix()
        session.sample(prefix, Decoding(2), SamplingKey(0, torch.arange(2)))
    cache = session._decoder._cache
    assert len(cache._steps) == KEPT_STEPS
    assert len(cache._prompts) == KEPT_PROMPTS


def test_rows_that_share_slots_grow_apart(endless):
    """Two continuations of one batch: the first writes into its slots, the second must not see that."""
    model = endless._cached_model
    rows = KVRows.empty(model.kinds, 2, torch.device("cpu"))
    start = torch.zeros(2, dtype=torch.long)
    with torch.no_grad():
        model.logits(rows, torch.tensor([[5, 6, 7], [8, 9, 10]]), start)
        rows.lengths = rows.lengths + 3
        roomy = take_rows([(rows, [1, 0])], [0, 1], [3, 3])
        one, two = (take_rows([(roomy, [0, 1])], [0, 1], [3, 3]) for _ in range(2))
        buffers = [branch.cache.row_layers[0].key_slots for branch in (roomy, one, two)]
        assert buffers[0] is buffers[1] is buffers[2], "rows that lie right are not copied"
        first = model.logits(one, torch.tensor([[11], [12]]), start + 3)
        second = model.logits(two, torch.tensor([[13], [14]]), start + 3)
        assert one.cache.row_layers[0].key_slots is buffers[0]
        assert two.cache.row_layers[0].key_slots is not buffers[0]
        for logits, last in ((first, (11, 12)), (second, (13, 14))):
            tokens = torch.tensor([[8, 9, 10, last[0]], [5, 6, 7, last[1]]])
            torch.testing.assert_close(logits[:, -1], endless.model(tokens).logits[:, -1], rtol=0, atol=1e-5)
    assert roomy.used == 3


class Synchronisations(TorchDispatchMode):
    """Counts what makes the host wait for a device: reading a number, or a size that depends on values."""

    WAITING = ("_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal")

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ in self.WAITING
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"top_k": 5}, {"top_p": 0.9}, {"temperature": 0.5}, {"stop": ("a", "b1")}])
def test_the_token_loop_does_not_wait_for_the_device(any_lm, monkeypatch, options):
    """On an accelerator: as many synchronisations for 6 tokens of ragged rows as for 3, whatever the options."""
    monkeypatch.setattr("pyro_llm.lm.sampling_pool._looks_always", lambda device: False)
    counts = []
    for max_tokens in (3, 6):
        state = any_lm.prompt(PROMPT).append(torch.tensor([[5, 6, 7], [5, PAD, PAD], [9, 8, PAD]]))
        state.session.next_log_probs(state.prefix(), Decoding(1))
        sample(state, Decoding(max_tokens, **options))  # compiles the stop strings
        with Synchronisations() as mode:
            sample(state, Decoding(max_tokens, **options), seed=1)
        counts.append(mode.count)
    assert counts[0] == counts[1]


def test_memories_that_cannot_be_forked_are_refused(tokenizer, llama_model):
    size = {"vocab_size": len(tokenizer), "hidden_size": 16, "num_hidden_layers": 2}
    with pytest.raises(CapabilityError, match="MambaForCausalLM takes no `past_key_values`"):
        HFLanguageModel(MambaForCausalLM(MambaConfig(**size, state_size=4)), tokenizer)
    own = MiniMaxConfig(**size, intermediate_size=16, num_attention_heads=2, num_key_value_heads=1, num_local_experts=1)
    with pytest.raises(CapabilityError, match="MiniMaxForCausalLM has a cache of its own kind"):
        HFLanguageModel(MiniMaxForCausalLM(own), tokenizer)
    llama_model.config.layer_types = ["full_attention", "indexed_attention"]
    with pytest.raises(CapabilityError, match="LlamaForCausalLM: a layer of the model remembers more than"):
        HFLanguageModel(llama_model, tokenizer)


class TestMemory:
    def test_particles_take_an_eighth_of_a_prompt_each(self, llama_model, tokenizer):
        """64 particles, a prompt of 2,048 tokens and 8 steps of 16 tokens, resampled after each."""
        llama_model.config.max_position_embeddings = 4096
        llama_model.generation_config.eos_token_id = tokenizer.eos_token = None
        lm = HFLanguageModel(llama_model, tokenizer, name="endless")
        state = lm.prompt("tom has " * 256).expand((64,))
        session, most = lm.session(), 0
        generator = torch.Generator().manual_seed(0)
        for step in range(8):
            drawn = session.sample(state.prefix(), Decoding(16), SamplingKey(step, torch.arange(64)))
            state = state.append(drawn.tokens)
            most = max(most, session.kv_bytes)
            ancestors = torch.multinomial(torch.rand(64, generator=generator), 64, True, generator=generator)
            state = state.map_tensors(lambda tensor, _, chosen=ancestors: tensor[chosen])
        assert drawn.tokens.min() >= 0
        prompt = len(state.prompt_tokens)
        assert prompt == 2048
        config = llama_model.config
        a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * 4
        assert 8 * most <= 64 * prompt * a_token
        assert most >= (prompt + 64 * 128) * a_token, "more must be held than is counted here"

    def test_ragged_steps_leave_no_holes(self, endless):
        """What is held grows with the longest text, not with what rows waited for each other."""
        session, state = endless.session(), endless.prompt(PROMPT).expand((6,))
        widths = []
        for step in range(10):
            given = torch.full((6, 6), PAD)
            given[:, 0], given[step % 6] = 5 + torch.arange(6), 7  # one row goes on for 6 tokens, the others for 1
            session.score(state.prefix(), given, Decoding(6))
            state = state.append(given)
            widths.append(next(iter(session._decoder._cache.batches())).rows.used)
        assert int(state.lengths.max()) == 20
        assert max(widths) <= 20 + 6, "waiting for each other, the rows would be 60 slots wide"

    def test_a_prompt_is_in_memory_once(self, endless):
        session, state = endless.session(), endless.prompt(PROMPT).expand((16,))
        session.next_log_probs(state.prefix(), Decoding(1))
        once = session.kv_bytes
        session.sample(state.prefix(), Decoding(3), SamplingKey(0, torch.arange(16)))
        assert session.kv_bytes <= once + 16 * (3 * once // len(state.prompt_tokens))


def test_rows_that_end_leave_the_batch_and_nothing_changes(any_lm, monkeypatch):
    decoding = Decoding(12, stop=("a", "e", "5", "q", "1"), temperature=1.3)
    drawn, rows_passed = [], []
    forward = type(any_lm._cached_model).forward

    def count(self, rows, tokens, *args, **kwargs):
        rows_passed.append(len(tokens))
        return forward(self, rows, tokens, *args, **kwargs)

    monkeypatch.setattr(type(any_lm._cached_model), "forward", count)
    for compact_at in (0.75, -1.0):
        monkeypatch.setattr("pyro_llm.lm.sampling_pool._COMPACT_AT", compact_at)
        state = any_lm.prompt(PROMPT).expand((24,))
        first = sample(state, decoding, seed=3)
        after = state.append(first.tokens)
        live = after.prefix((~after.finished).nonzero().squeeze(-1))
        drawn.append((first, after.session.next_log_probs(live, Decoding(1))))
        rows_passed.append(0)
    compacted, whole = rows_passed[: rows_passed.index(0)], rows_passed[rows_passed.index(0) + 1 :]
    assert sum(compacted) < 0.8 * sum(whole)
    assert torch.equal(drawn[0][0].tokens, drawn[1][0].tokens)
    torch.testing.assert_close(drawn[0][0].log_prob, drawn[1][0].log_prob, rtol=0, atol=1e-4)
    torch.testing.assert_close(drawn[0][1], drawn[1][1], rtol=0, atol=1e-4)


def test_nothing_is_reallocated_within_a_step(endless, monkeypatch):
    copies = []
    copy = SlotBuffer.copy
    monkeypatch.setattr(SlotBuffer, "copy", lambda self, *args, **kw: copies.append(1) or copy(self, *args, **kw))
    state = endless.prompt(PROMPT).expand((4,))
    state.session.next_log_probs(state.prefix(), Decoding(1))
    copies.clear()
    for step in range(3):
        state = state.append(sample(state, Decoding(40 - step), seed=step).tokens) if step < 2 else state
    assert copies == []
