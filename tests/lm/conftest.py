"""Tiny models of standard architectures, with weights large enough that every token matters to every other."""

import string
from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    FalconH1Config,
    FalconH1ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from pyro_llm.lm import HFLanguageModel, TableLM

TOKENS = ["<pad>", "<s>", "</s>", "Ġ", *string.digits, *string.ascii_lowercase]
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SIZES = {
    **SPECIAL,
    "vocab_size": len(TOKENS),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "initializer_range": 0.3,
}
GPT2_SIZES = {"vocab_size": len(TOKENS), "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 96}
CONFIGS: dict[str, Callable[[], tuple]] = {
    "qwen2": lambda: (Qwen2ForCausalLM, Qwen2Config(**SIZES)),
    "qwen3": lambda: (Qwen3ForCausalLM, Qwen3Config(**SIZES, head_dim=8)),
    "llama": lambda: (LlamaForCausalLM, LlamaConfig(**SIZES)),
    "gpt2": lambda: (GPT2LMHeadModel, GPT2Config(**SPECIAL, **GPT2_SIZES, initializer_range=0.3)),
    "gemma3": lambda: (  # five layers with a window of 6 tokens and one without
        Gemma3ForCausalLM,
        Gemma3TextConfig(**{**SIZES, "num_hidden_layers": 6}, head_dim=8, sliding_window=6),
    ),
    "falcon_h1": lambda: (  # a recurrent state beside keys and values in every layer
        FalconH1ForCausalLM,
        FalconH1Config(
            **SIZES,
            mamba_d_ssm=32,
            mamba_n_heads=4,
            mamba_d_head=8,
            mamba_d_state=8,
            mamba_n_groups=1,
            mamba_chunk_size=8,
        ),
    ),
}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each letter, digit and blank."""
    backend = Tokenizer(BPE(vocab={token: id for id, token in enumerate(TOKENS)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=96
    )


def tiny_model(architecture: str) -> PreTrainedModel:
    """A model with seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kind, config = CONFIGS[architecture]()
        return kind(config).eval()


@pytest.fixture(scope="session", params=list(CONFIGS))
def any_lm(request: pytest.FixtureRequest) -> HFLanguageModel:
    """A language model of each architecture in turn."""
    return HFLanguageModel(tiny_model(request.param), tiny_tokenizer(), name=request.param)


@pytest.fixture(scope="session", params=["llama", "gemma3", "falcon_h1"])
def double_model(request: pytest.FixtureRequest) -> PreTrainedModel:
    """Full attention, sliding windows and recurrent states in turn; float64, but for shared prompts' merged scores."""
    return tiny_model(request.param).double()


@pytest.fixture(scope="session")
def llama_lm() -> HFLanguageModel:
    return HFLanguageModel(tiny_model("llama"), tiny_tokenizer(), name="llama")


@pytest.fixture(scope="session")
def gemma3_lm() -> HFLanguageModel:
    return HFLanguageModel(tiny_model("gemma3"), tiny_tokenizer(), name="gemma3")


@pytest.fixture
def any_model() -> Callable[[str], PreTrainedModel]:
    """Makes the model of an architecture."""
    return tiny_model


@pytest.fixture
def llama_model() -> PreTrainedModel:
    return tiny_model("llama")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="session")
def table_lm() -> TableLM:
    """Asymmetric probabilities that depend on the whole text; `b` cannot follow `b`."""

    def conditional(tokens: tuple[int, ...]) -> list[float]:
        weights = [1.0 + len(tokens), 2.0 + tokens.count(0), 0.7, 0.4 + 0.3 * tokens.count(2)]
        if tokens and tokens[-1] == 1:
            weights[1] = 0.0
        return [weight / sum(weights) for weight in weights]

    return TableLM(conditional, vocabulary=["a", "b", "\n", "<eos>"], eos_token_id=3)


@pytest.fixture(scope="session")
def fresh_log_probs() -> Callable[[HFLanguageModel, list[int]], torch.Tensor]:
    """Log-probabilities after each token of a row, by a forward pass of that row alone, without a cache."""

    def compute(lm: HFLanguageModel, row: list[int]) -> torch.Tensor:
        with torch.no_grad():
            logits = lm.model(
                torch.tensor([row]), attention_mask=torch.ones(1, len(row), dtype=torch.long), use_cache=False
            ).logits
        return logits[0].float().log_softmax(-1)

    return compute
