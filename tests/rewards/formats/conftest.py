"""Tiny random models saved as the published ones are, with tokenizers that have the tokens that these need."""

import json

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config

from pyro_llm.lm import PAD, TableLM

SPECIAL = ["<pad>", "<bos>", "<eos>", "<extra_0>", "<|im_start|>", "<|im_end|>"]
SPECIAL += ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
PROBLEM = "How many primes?"
STEPS = ["Step 1: 3 + 4 = 7", "Step 2: 7 * 2 = 14.", "So: 14"]


def byte_tokenizer(template=None, bos=None, merged=()):
    """A token for each byte, the special tokens, and one for each text of `merged` (letters of one byte only)."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary, merges = {letter: id for id, letter in enumerate(letters)}, []
    shape = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for text in merged:
        ((spelt, _),) = shape.pre_tokenize_str(text)
        for end in range(2, len(spelt) + 1):
            if spelt[:end] not in vocabulary:
                vocabulary[spelt[:end]] = len(vocabulary)
                merges.append((spelt[: end - 1], spelt[end - 1]))
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer, backend.decoder = shape, decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    names = {"eos_token": "<eos>", "pad_token": "<pad>"} | ({"bos_token": bos} if bos else {})
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    tokenizer.chat_template = template
    return tokenizer


def sizes(tokenizer, **more):
    return {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512, "initializer_range": 0.3,
        "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, **more,
    }  # fmt: skip


CONFIGS = {"llama": LlamaConfig, "mistral": MistralConfig, "qwen2": Qwen2Config}


def random_model(model_class, family, tokenizer, seed=1, **config):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model_class(CONFIGS[family](**sizes(tokenizer, **config))).eval()


def random_weights(**shapes):
    with torch.random.fork_rng():
        torch.manual_seed(9)
        return {name.replace("__", "."): torch.randn(shape) / 3 for name, shape in shapes.items()}


def publish(folder, model, tokenizer, weights=None, **config):
    """Save as a published repository: the model, more weights under their names, and what its config says."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if weights is not None:
        prefix = "" if hasattr(model, model.base_model_prefix) else "model."  # a body alone has no prefix
        tensors = {prefix + name: tensor.contiguous() for name, tensor in model.state_dict().items()} | weights
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))
    return folder


@pytest.fixture(scope="session")
def writer():
    """A language model of whole steps, each with its separator, and EOS."""

    def make(separator="\n\n"):
        tokens = [*(step + separator for step in STEPS), *STEPS, "<eos>"]
        return TableLM(lambda _: [1 / 7] * 7, tokens, eos_token_id=6)

    return make


@pytest.fixture(scope="session")
def written(writer):
    """States whose rows are the prefixes of one solution: after a step, two, three; the last ended by EOS."""

    def make(separator="\n\n", prompt=PROBLEM):
        rows = [[0, PAD, PAD, PAD], [0, 1, PAD, PAD], [0, 1, 5, PAD], [0, 1, 5, 6]]
        return writer(separator).prompt(prompt).append(torch.tensor(rows))

    return make
