"""The work that is timed: a tiny Qwen2 with random weights, a prompt, and a reward that tells texts apart."""

from __future__ import annotations

import string
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from pyro_llm.lm import HFLanguageModel

LETTERS = (string.ascii_lowercase + string.digits)[:32]
VOCABULARY_SIZE = len(LETTERS) ** 2


@dataclass(frozen=True)
class ModelSize:
    """The size of the language model."""

    hidden: int = 256
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    context: int = 8192

    def config(self) -> dict[str, Any]:
        """The arguments of a Qwen2 configuration. No token ends a text, so that the amount of work is known."""
        return {
            "vocab_size": VOCABULARY_SIZE,
            "hidden_size": self.hidden,
            "intermediate_size": 4 * self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.key_value_heads,
            "max_position_embeddings": self.context,
            "bos_token_id": None,
            "eos_token_id": None,
            "pad_token_id": 0,
        }


@dataclass(frozen=True)
class Workload:
    """What is to be done.

    Attributes:
        particles: N.
        prompt_length: tokens of the prompt.
        steps: steps of text.
        step_tokens: tokens of each step; no step ends earlier.
        model_size: of the language model.
        device: where it is.
    """

    particles: int = 32
    prompt_length: int = 256
    steps: int = 8
    step_tokens: int = 16
    model_size: ModelSize = field(default_factory=ModelSize)
    device: str = "cpu"

    @property
    def tokens(self) -> int:
        """Tokens that all particles sample together."""
        return self.particles * self.steps * self.step_tokens

    @property
    def lm(self) -> HFLanguageModel:
        """The language model, the same object for all workloads of one model size."""
        return language_model(self.model_size, self.device)

    @property
    def prompt(self) -> str:
        """A prompt of random tokens."""
        return self.lm.decode(self.prompt_tokens)

    @property
    def prompt_tokens(self) -> list[int]:
        """Its tokens."""
        generator = torch.Generator().manual_seed(1)
        return torch.randint(VOCABULARY_SIZE, (self.prompt_length,), generator=generator).tolist()

    def with_(self, **changes: Any) -> Workload:
        """The workload with changes."""
        return replace(self, **changes)

    def describe(self) -> str:
        """In words, for the table."""
        return f"N={self.particles}, prompt {self.prompt_length}, {self.steps} steps × {self.step_tokens} tokens"


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each pair of 32 letters, so that any sampled tokens survive being decoded and encoded again.

    The 256 bytes follow, with ids that the model never emits: llamppl asks that every text can be encoded.
    """
    pairs = list(product(LETTERS, LETTERS))
    tokens = ["".join(pair) for pair in pairs] + sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(BPE({token: number for number, token in enumerate(tokens)}, merges=pairs))
    alone = pre_tokenizers.Split(Regex("[a-z0-9]{2}"), behavior="isolated")
    in_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([alone, in_bytes])
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@cache
def language_model(size: ModelSize, device: str) -> HFLanguageModel:
    """A language model with seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(**size.config())).eval().to(device)
    model.generation_config.pad_token_id = 0
    name = f"Qwen2, hidden {size.hidden}, {size.layers} layers, vocabulary {VOCABULARY_SIZE}"
    return HFLanguageModel(model, tokenizer(), name=name)


def acceptance(text: str) -> float:
    """The probability that the reward gives to a text: it varies from step to step, and costs next to nothing."""
    return 0.2 + 0.6 * (sum(map(ord, text)) % 101) / 101
