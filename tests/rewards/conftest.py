"""Tiny token classifiers of standard architectures, and a tokenizer that merges letters across steps."""

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import (
    BertConfig,
    BertForTokenClassification,
    Gemma2Config,
    Gemma2ForTokenClassification,
    Gemma3TextConfig,
    GPT2Config,
    GPT2ForTokenClassification,
    Lfm2Config,
    LlamaConfig,
    LlamaForTokenClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForTokenClassification,
)
from transformers.modeling_layers import GenericForTokenClassification
from transformers.models.gemma3.modeling_gemma3 import Gemma3PreTrainedModel
from transformers.models.lfm2.modeling_lfm2 import Lfm2PreTrainedModel

from pyro_llm.lm import TableLM
from pyro_llm.rewards import ProcessReward

LETTERS = ["a", "b", "c", ".", "?"]
MERGED = ["ab", "ca", "abca", "b."]
TOKENS = ["<pad>", "</s>", *LETTERS, *MERGED]
SIZES = {
    "vocab_size": len(TOKENS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "max_position_embeddings": 160, "initializer_range": 0.3, "num_labels": 2,
    "pad_token_id": 0, "eos_token_id": 1,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}
WINDOW = {**GROUPED, "num_hidden_layers": 6, "head_dim": 8, "sliding_window": 6}


class Gemma3TextForTokenClassification(GenericForTokenClassification, Gemma3PreTrainedModel):
    """transformers has the head and the body, and no name for the two together."""

    config_class = Gemma3TextConfig


class Lfm2ForTokenClassification(GenericForTokenClassification, Lfm2PreTrainedModel):
    """Likewise."""

    config_class = Lfm2Config


CLASSIFIERS = {
    "qwen2": lambda: Qwen2ForTokenClassification(Qwen2Config(**GROUPED)),
    "llama": lambda: LlamaForTokenClassification(LlamaConfig(**GROUPED)),
    "gpt2": lambda: GPT2ForTokenClassification(
        GPT2Config(vocab_size=len(TOKENS), n_embd=32, n_layer=2, n_head=4, n_positions=160, initializer_range=0.3)
    ),
    "gemma2": lambda: Gemma2ForTokenClassification(Gemma2Config(**WINDOW)),
    "gemma3": lambda: Gemma3TextForTokenClassification(Gemma3TextConfig(**WINDOW)),
    "lfm2": lambda: Lfm2ForTokenClassification(Lfm2Config(**GROUPED, layer_types=["conv", "full_attention"])),
    "bert": lambda: BertForTokenClassification(BertConfig(**SIZES)),
    "bidirectional gemma3": lambda: Gemma3TextForTokenClassification(
        Gemma3TextConfig(**WINDOW, use_bidirectional_attention=True)
    ),
}


def tiny_classifier(architecture):
    """A token classifier with two labels and seeded random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return CLASSIFIERS[architecture]().eval()


@pytest.fixture(scope="session")
def merging_tokenizer():
    """A token for each letter and for some pairs, whatever step the letters belong to."""
    merges = [("a", "b"), ("c", "a"), ("ab", "ca"), ("b", ".")]
    backend = Tokenizer(BPE(vocab={token: id for id, token in enumerate(TOKENS)}, merges=merges))
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", pad_token="<pad>")


@pytest.fixture(scope="session")
def letter_lm():
    """Writes single letters: a step may end within a pair that the reward's tokenizer merges."""
    return TableLM(lambda tokens: [0.2, 0.2, 0.2, 0.1, 0.2, 0.1], [*LETTERS, "<eos>"], eos_token_id=5)


@pytest.fixture(scope="session")
def rewards_of(merging_tokenizer):
    """Makes the reward of an architecture: `rewards_of("llama", batch_size=3)`."""
    models = {}

    def make(architecture, **options):
        if architecture not in models:
            models[architecture] = tiny_classifier(architecture)
        return ProcessReward(models[architecture], merging_tokenizer, name=architecture, **options)

    return make


@pytest.fixture(scope="session")
def fresh():
    """The score of a solution by a forward pass of its own, from the first token, without a cache."""

    @torch.no_grad()
    def score(reward, solution):
        tokens = torch.tensor([reward.encode(solution)])
        logits = reward.model(tokens, attention_mask=torch.ones_like(tokens), **_uncached(reward.model)).logits
        return float(logits[0, -1, 1] - logits[0, -1, 0])

    return score


def _uncached(model):
    return {} if isinstance(model, BertForTokenClassification) else {"use_cache": False}
