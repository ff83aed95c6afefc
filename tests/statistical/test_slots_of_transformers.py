"""On transformers built from their configs: no draw depends on the company of its row, through the whole engine.

In float64, so that another shape of the batch moves a probability by less than 1e-12. A token then changes if a uniform
falls that close to a boundary between tokens: with under 1,000 draws and 40 boundaries each, a chance below 1e-7.
"""

import itertools
import string

import pyro
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

import pyro_llm
from pyro_llm.distributions import LLM, NextToken
from pyro_llm.infer import SMC, Importance
from pyro_llm.lm import PAD, HFLanguageModel
from pyro_llm.lm.language_model import Prefix, SamplingKey
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

TOKENS = ["<pad>", "<s>", "</s>", "Ġ", *string.digits, *string.ascii_lowercase]
SIZES = {
    "vocab_size": len(TOKENS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96, "initializer_range": 0.3,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
ARCHITECTURES = {"qwen2": (Qwen2ForCausalLM, Qwen2Config), "llama": (LlamaForCausalLM, LlamaConfig)}
REWARD = FunctionReward(lambda text: (1 + sum(letter in "aeiou" for letter in text)) / (2 + len(text)))


class RecordingLM(HFLanguageModel):
    """Notes each batch that its sessions draw."""

    batches: list

    def session(self):
        session, batches = super().session(), self.batches
        sample = session.sample

        def noted(prefix, decoding, key):
            drawn = sample(prefix, decoding, key)
            batches.append((prefix, decoding, key, drawn))
            return drawn

        session.sample = noted
        return session


@pytest.fixture(scope="module", params=list(ARCHITECTURES))
def lm(request):
    backend = Tokenizer(BPE(vocab={token: number for number, token in enumerate(TOKENS)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    kind, config = ARCHITECTURES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = kind(config(**SIZES)).double()
    with torch.no_grad():
        model.lm_head.weight[2] *= 1.7  # so that texts end, early and late
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **special, model_max_length=96)
    return RecordingLM(model, tokenizer, name=request.param)


@pytest.fixture(autouse=True)
def nothing_noted(lm):
    lm.batches = []


def steps(lm):
    return ReasoningSSM(lm, REWARD, max_steps=4, stop="e", max_tokens=5)


def tokens(lm):
    def program(problem):
        state = lm.prompt(problem)
        for t in range(5):
            state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state, temperature=0.8)))
            pyro_llm.accept(f"accept_{t}", REWARD, state)
        return state

    return program


PROGRAMS = pytest.mark.parametrize("program", [steps, tokens])


def trimmed(row):
    return tuple(itertools.takewhile(lambda token: token != PAD, row))


def rows_of(posterior):
    return [trimmed(row) for row in posterior.returns.tokens.flatten(0, 1).tolist()]


@PROGRAMS
def test_each_row_of_smc_draws_alone_what_it_drew_in_its_batch(program, lm):
    """Every row of every batch, after resampling, beside finished texts and padding, from a fresh session, alone."""
    posterior = SMC(program(lm), 12, num_runs=2, ess_threshold=1.0, progress=False).run("tom has 3")
    assert posterior.stats.resampled.sum() >= 4
    assert any((ancestors != torch.arange(12).numpy()).any() for ancestors in posterior.stats.ancestors[0])
    batches, lm.batches = lm.batches, []
    assert len({len(key.slots) for _, _, key, _ in batches}) > 1  # texts ended, and left the batch
    ragged = any((prefix.lengths != prefix.lengths[0]).any() for prefix, *_ in batches)
    assert ragged == (program is steps)
    for prefix, decoding, key, drawn in batches:
        for row in range(len(key.slots)):
            length = int(prefix.lengths[row])
            alone = Prefix(prefix.prompt_tokens, prefix.tokens[row : row + 1, :length], prefix.lengths[row : row + 1])
            again = lm.session().sample(alone, decoding, SamplingKey(key.seed, key.slots[row : row + 1]))
            assert trimmed(again.tokens[0].tolist()) == trimmed(drawn.tokens[row].tolist())
            torch.testing.assert_close(again.log_prob[0], drawn.log_prob[row], rtol=0, atol=1e-12)


@PROGRAMS
def test_rows_in_another_order_draw_the_same(program, lm):
    """Each batch of an SMC run, permuted together with its keys, and with more padding."""
    SMC(program(lm), 12, num_runs=2, ess_threshold=1.0, progress=False).run("tom has 3")
    batches, lm.batches = lm.batches, []
    for prefix, decoding, key, drawn in batches:
        order = torch.randperm(len(key.slots))
        padded = torch.nn.functional.pad(prefix.tokens, (0, 7), value=PAD)[order]
        permuted = Prefix(prefix.prompt_tokens, padded, prefix.lengths[order])
        again = lm.session().sample(permuted, decoding, SamplingKey(key.seed, key.slots[order]))
        assert torch.equal(again.tokens, drawn.tokens[order])
        torch.testing.assert_close(again.log_prob, drawn.log_prob[order], rtol=0, atol=1e-12)


def test_texts_that_end_move_no_key(lm):
    """Texts that are finished leave the batch of the model; the slots of those that stay remain theirs."""

    def program(ended):
        state = lm.prompt("tom has 3").expand((16,))
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=3)))
            state = state.finish(torch.arange(16) < ended)
            pyro.factor(f"equal_{t}", torch.zeros(16))  # each slot is its own ancestor
        return state

    drawn = []
    for ended in (0, 9, 15):
        pyro.set_rng_seed(7)
        posterior = SMC(program, 16, ess_threshold=1.0, progress=False).run(ended)
        assert posterior.stats.resampled[0].tolist() == [True, True, False]
        drawn.append(rows_of(posterior))
    assert drawn[0][9:] == drawn[1][9:] and drawn[0][15:] == drawn[2][15:]
    assert drawn[0][:9] != drawn[1][:9]


@PROGRAMS
def test_a_particle_draws_the_same_in_a_larger_population(program, lm):
    drawn = []
    for num_runs, num_particles in ((1, 1), (1, 5), (5, 1), (4, 8)):
        pyro.set_rng_seed(5)
        posterior = Importance(program(lm), num_particles, num_runs=num_runs, progress=False).run("anna has 12")
        drawn.append(rows_of(posterior))
    for few in drawn:
        assert few == drawn[-1][: len(few)]
    assert len(set(drawn[-1])) > 16


def test_particle_by_particle_draws_are_those_of_the_batch(lm):
    """With resampling: the same draws, weights and evidence, where all particles meet the same sites."""
    posteriors = []
    for particles in ("vectorized", "scalar"):
        pyro.set_rng_seed(6)
        smc = SMC(tokens(lm), 10, ess_threshold=1.0, particles=particles, progress=False)
        posteriors.append(smc.run("tom has 3"))
    batched, single = posteriors
    assert batched.stats.resampled.any()
    assert rows_of(batched) == rows_of(single)
    torch.testing.assert_close(batched.log_evidence, single.log_evidence, rtol=0, atol=1e-12)
    torch.testing.assert_close(batched.log_weights, single.log_weights, rtol=0, atol=1e-12)
