"""Causal language models of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pyro_llm.errors import CapabilityError, ContextLengthError, PromptError
from pyro_llm.lm.cached_decoder import CachedDecoder
from pyro_llm.lm.cached_model import CachedModel
from pyro_llm.lm.kv.compiled import CompileOption
from pyro_llm.lm.kv.transformer import input_device
from pyro_llm.lm.memory import Memory
from pyro_llm.lm.state import TextState, check_prompt
from pyro_llm.lm.token_session import TokenSession
from pyro_llm.lm.vocabulary import token_bytes

_WITHOUT_FLOAT64 = frozenset({"mps"})


class HFLanguageModel:
    """A causal language model of transformers with its tokenizer, on the device and in the dtype it was loaded with.

    A prompt goes through the tokenizer's chat template where there is one, and is raw text otherwise. Of the model's
    `generation_config` only the end-of-sequence tokens are read: how tokens are drawn is for `Decoding` to say.

    Args:
        model: a decoder-only model; it is put into evaluation mode.
        tokenizer: its tokenizer.
        system_prompt: what the chat template is given as the system's message, if anything.
        name: for messages; by default where the model came from.
        shared_prompts: store a prompt's keys and values once for all particles, and attend to them once, where the
            model's attention allows it. False is the reference: a copy for every particle, and transformers' attention.
        memory_budget: bytes that keys, values, recurrent states and logits may take over all runs, weights and
            activations apart. Rows beyond it wait their turn, and what was read the longest ago is forgotten and read
            again, with the same results. None: half of what the device has free when the model first reads.
        compile: compile the pass of the token loop with `torch.compile`: all of the model but its attention. True, or
            `"reduce-overhead"` to have CUDA graphs as well (untried so far, for want of a GPU). The first tokens wait
            for it, a minute or so. Results are equal but for rounding.

    Attributes:
        vocabulary_size: width of the logits, which may exceed the tokenizer's vocabulary.
        eos_token_ids: of the generation config and of the tokenizer together.
        context_length: positions of the model, or None if its config names no limit.
        memory: what its sessions hold and may hold.

    Raises:
        OptionError: the memory budget is not a positive number of bytes, or there is no such way to compile.
        CapabilityError: the model's memory cannot be forked and reordered, it cannot be compiled (raised when it first
            reads if only that tells), or a system prompt is given and there is no chat template.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        system_prompt: str | None = None,
        name: str | None = None,
        shared_prompts: bool = True,
        memory_budget: int | None = None,
        compile: CompileOption = False,
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.name = name or model.config.name_or_path or type(model).__name__
        self.system_prompt = system_prompt
        if system_prompt is not None and not tokenizer.chat_template:
            raise CapabilityError(
                f"the tokenizer of {self.name!r} has no chat template, so that a system prompt has no place in it; "
                "write it into the prompts instead"
            )
        config = model.config.get_text_config()
        self.vocabulary_size: int = config.vocab_size
        self.context_length: int | None = getattr(config, "max_position_embeddings", None)
        self.eos_token_ids = _eos_token_ids(model, tokenizer, self.vocabulary_size)
        self.memory = Memory(memory_budget, input_device(model))
        self._cached_model = CachedModel(model, self.context_length, shared_prompts, compile)

    @property
    def device(self) -> torch.device:
        """Where texts are, and where tokens are drawn: that of the model's embeddings, or the CPU.

        Draws and sums of log-probabilities are in float64. Where a device has none (MPS), logits come to the CPU.
        """
        device = self._cached_model.device
        return torch.device("cpu") if device.type in _WITHOUT_FLOAT64 else device

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's parameters."""
        return self.model.dtype

    def encode(self, text: str) -> list[int]:
        """Token ids of a text that continues a prompt, without special tokens."""
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out; bytes that are not UTF-8 become U+FFFD."""
        table = self._token_bytes
        return b"".join(table[id] for id in token_ids).decode("utf-8", errors="replace")

    def token_bytes(self) -> Sequence[bytes]:
        """The bytes that each token contributes to a text, special tokens as `b""`."""
        return self._token_bytes

    @cached_property
    def _token_bytes(self) -> tuple[bytes, ...]:
        table = token_bytes(self.tokenizer, self.vocabulary_size)
        for id in self.eos_token_ids:
            table[id] = b""
        return tuple(table)

    def prompt(self, text: str) -> TextState:
        """The state of a text that has just begun.

        Raises:
            ContextLengthError: the prompt leaves no room in the context.
            CapabilityError: the chat template refuses the system prompt.
            PromptError: the prompt is no string, has a tensor written out in it (a value that differs between
                particles, which share one prompt), or has no tokens at all: an empty one is a prompt where the
                tokenizer puts a beginning-of-sequence token before it, or a chat template goes around it.
        """
        check_prompt(text)
        tokens = self._prompt_tokens(text)
        if not tokens:
            raise PromptError(
                f"the prompt {text!r} has no tokens, and {self.name!r} has no beginning-of-sequence token to start "
                "from; give it some text"
            )
        if self.context_length is not None and len(tokens) >= self.context_length:
            raise ContextLengthError(
                f"the prompt has {len(tokens)} tokens, and the context of {self.name!r} holds {self.context_length}, "
                "what is to be written included; shorten the prompt or take a model with a longer context"
            )
        return TextState.begin(self, text, tokens)

    def _prompt_tokens(self, text: str) -> list[int]:
        if not self.tokenizer.chat_template:
            return list(self.tokenizer.encode(text, verbose=False))  # we say ourselves what is too long
        messages = [{"role": "user", "content": text}]
        if self.system_prompt is not None:
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        try:
            # The template writes the special tokens itself: rendered first, so that none is added twice.
            rendered = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except TemplateError as error:
            raise CapabilityError(f"the chat template of {self.name!r} refuses this prompt: {error}") from error
        return list(self.tokenizer.encode(rendered, add_special_tokens=False, verbose=False))

    def session(self) -> TokenSession:
        """A fresh session, with a key-value cache of its own."""
        return TokenSession(self, CachedDecoder(self._cached_model, self.memory))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_token_bytes"}

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return (
            f"HFLanguageModel({self.name!r}, {type(self.model).__name__}, {parameters / 1e6:.1f}M parameters, "
            f"vocabulary_size={self.vocabulary_size}, context_length={self.context_length}, "
            f"dtype={str(self.dtype).removeprefix('torch.')}, device={str(self.device)!r})"
        )


def _eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, vocabulary_size: int) -> tuple[int, ...]:
    of_generation = getattr(model.generation_config, "eos_token_id", None)
    ids = {tokenizer.eos_token_id, *(of_generation if isinstance(of_generation, list) else [of_generation])}
    return tuple(sorted(id for id in ids if id is not None and 0 <= id < vocabulary_size))
