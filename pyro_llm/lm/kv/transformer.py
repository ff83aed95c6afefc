"""Forward passes of any decoder of transformers over rows in a key-value cache."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pyro_llm.errors import CapabilityError
from pyro_llm.lm.kv.attention import SharedPromptPass
from pyro_llm.lm.kv.compiled import COMPILED, CompiledPass, CompileOption, check_compile_option
from pyro_llm.lm.kv.interface import PASS, Witness, switch_attention
from pyro_llm.lm.kv.layers import layer_kinds
from pyro_llm.lm.kv.rows import KVRows
from pyro_llm.lm.kv.states import States
from pyro_llm.lm.memory import RowSize


class CachedTransformer:
    """A model whose rows can be forked, reordered and moved within its cache.

    Args:
        model: a decoder with a cache, whatever its head gives: logits of tokens, classes of tokens.
        context_length: positions it has, or None if it names no limit.
        shared_prompts: store a prompt once for all rows, where the model's attention allows it. If not, every row holds
            its own copy and transformers computes all attention: slower, and the reference for the other.
        compile: compile the pass over one token a row; see `CompiledPass`.

    Attributes:
        kinds: what its layers remember.
        recurrent: whether some layer has a state that cannot be cut back.
        row_size: what a row takes; None as long as none has been read.

    Raises:
        CapabilityError: the model's memory cannot be moved from row to row, or its positions cannot be given.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        context_length: int | None,
        shared_prompts: bool = True,
        compile: CompileOption = False,
    ) -> None:
        check_compile_option(compile, input_device(model))
        self._model = model
        self._context_length = context_length
        options = inspect.signature(model.forward).parameters
        for name in ("past_key_values", "position_ids", "attention_mask"):
            if name not in options:
                raise CapabilityError(
                    f"{type(model).__name__} takes no `{name}`, which forking and resampling its rows needs; "
                    "take a decoder-only model with a key-value cache (Llama, Qwen, Gemma, GPT-2, ...)"
                )
        if not getattr(model, "_supports_default_dynamic_cache", lambda: True)():
            raise CapabilityError(
                f"{type(model).__name__} has a cache of its own kind, whose rows cannot be forked and resampled; take "
                "a model that goes with transformers' DynamicCache"
            )
        try:
            self.kinds = layer_kinds(model.config)
        except CapabilityError as error:
            raise CapabilityError(f"{type(model).__name__}: {error}") from None
        if not any(kind.attends for kind in self.kinds):
            raise CapabilityError(f"{type(model).__name__} has no attention layer; take a model with at least one")
        self.recurrent = any(kind.states for kind in self.kinds)
        passes_on = any(option.kind is option.VAR_KEYWORD for option in options.values())
        self._may_share = shared_prompts and passes_on and switch_attention(model)
        self.row_size: RowSize | None = None
        self._compiled = CompiledPass(model, compile) if compile else None
        if compile and (self.recurrent or not self._may_share or self.is_spread):
            raise self._not_compilable()
        self._shares: bool | None = None  # None: no prompt has shown it yet

    @property
    def device(self) -> torch.device:
        """Where the model takes its tokens; its layers may be on other devices."""
        return input_device(self._model)

    @property
    def is_spread(self) -> bool:
        """Whether the model's layers are on several devices."""
        return len(set(getattr(self._model, "hf_device_map", {}).values())) > 1

    def empty(self, rows: int, device: torch.device) -> KVRows:
        """Rows without tokens."""
        return KVRows.empty(self.kinds, rows, device)

    @property
    def shares_prompts(self) -> bool:
        """Whether prompts are stored apart; False as long as none has been read."""
        return bool(self._shares)

    def settle_prompt(self, rows: KVRows, length: int | None = None) -> KVRows:
        """A row that was read from its prompt's first token, with the prompt apart if the model allows it.

        Args:
            rows: one row.
            length: tokens of the prompt; None for all that it has.
        """
        return rows.with_prompt_apart(length) if self._shares else rows

    def forward(
        self, rows: KVRows, tokens: Tensor, begin: Tensor, reading: Tensor | None = None, **arguments: Any
    ) -> Any:
        """Read tokens after the slots of rows, and append them to the cache; the rows' lengths are left to the caller.

        Args:
            rows: their cache grows.
            tokens: shape `[rows, length]`. What lies after a row's last token must never be read again.
            begin: the position of each row's first token. Shape `[rows]`.
            reading: rows of which all these tokens are text; what others have are padding, and their recurrent states
                stay as they are. None for all. Shape `[rows]`.
            arguments: for the model.

        Returns:
            What the model's forward gives.
        """
        length = tokens.shape[1]
        position_ids = begin.unsqueeze(-1) + torch.arange(length, device=tokens.device)
        if self._context_length is not None:
            position_ids = position_ids.clamp(max=self._context_length - 1)  # reached by padding only
        witness: Witness | None = None
        if rows.prompts and self._compiled is not None and length == 1 and not arguments:
            return self._compiled(
                SharedPromptPass(rows, length),
                input_ids=tokens.to(self.device),
                position_ids=position_ids.to(self.device),
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.device),
                **{PASS: COMPILED},
            )
        if rows.prompts:
            arguments[PASS] = SharedPromptPass(rows, length)
            # Four dimensions: transformers takes it as it is, makes no mask of its own, and ours is in the pass.
            mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=tokens.device)
        else:
            mask = rows.attention_mask(length)
            if self._may_share and self._shares is None:
                witness = arguments[PASS] = Witness(rows.cache)
        before = self._own_states(rows)
        output = self._model(
            input_ids=tokens.to(self.device),
            position_ids=position_ids.to(self.device),
            attention_mask=mask.to(self.device),
            past_key_values=rows.cache,
            use_cache=True,
            **arguments,
        )
        if reading is not None:
            for states, number, old in before:
                ours = reading.to(old.device).view(-1, *[1] * (old.dim() - 1))
                new = states[number]
                assert new is not None
                states[number] = torch.where(ours, new, old)
        if witness is not None:
            self._shares = witness.shares()
            if self._compiled is not None and not self._shares:
                raise self._not_compilable()
        return output

    def _not_compilable(self) -> CapabilityError:
        return CapabilityError(
            f"{type(self._model).__name__} cannot be compiled: that takes a model on one device, with shared prompts, "
            "whose layers all have plain attention (transformers' 'sdpa') and no recurrent state. Load it without "
            "compile=."
        )

    def segments(self, lengths: Sequence[int], longest: int, fresh: bool = False) -> Iterator[tuple[int, int]]:
        """The passes in which to read rows of unequal lengths, padded on the right: from token to token.

        Args:
            lengths: tokens of each row.
            longest: tokens that a pass may have.
            fresh: nothing has been read before.
        """
        # A state cannot be cut back, so that no row of a recurrent model may end within a pass.
        ends = sorted(set(lengths) - {0}) if self.recurrent else [max(lengths)]
        if self.recurrent and not fresh and max(lengths) > 1 and not self._continues:
            longest = 1
        begin = 0
        for end in ends:
            while begin < end:
                yield begin, min(begin + longest, end)
                begin = min(begin + longest, end)

    @cached_property
    def _continues(self) -> bool:
        """Whether a pass over several tokens goes on from a recurrent state: some models' start anew (Jamba, say).

        Two passes that differ in the state of the first recurrent layer alone must leave different states there.
        """
        after = []
        for forget in (False, True):
            device = self.device
            rows, some = self.empty(1, device), torch.tensor([[1, 3, 2]], device=device)
            with torch.no_grad():
                self.forward(rows, some[:, :1], rows.lengths)
                layer = rows.cache.state_layers[0]
                for number, state in layer.recurrent_states.items():
                    if forget and state is not None:
                        layer.recurrent_states[number] = torch.zeros_like(state)
                self.forward(rows, some[:, 1:], rows.lengths + 1)
            after.append([state for state in layer.recurrent_states.values() if state is not None])
        return all(not torch.equal(first, second) for first, second in zip(*after, strict=True))

    def _own_states(self, rows: KVRows) -> list[tuple[States, int, Tensor]]:
        """Give rows states of their own, which a pass may overwrite; returns those they had."""
        before = list(rows.cache.states()) if self.recurrent else []
        for states, number, state in before:
            states[number] = state.clone()
        return before


def input_device(model: PreTrainedModel) -> torch.device:
    """Where a model takes its tokens: the device of its embeddings, if it is spread over several.

    Embeddings that are kept elsewhere until they are needed (on disk, say) have none: accelerate's hook then knows it.
    """
    embeddings = model.get_input_embeddings()
    device = next((parameter.device for parameter in embeddings.parameters()), model.device)
    executes_on = getattr(getattr(model, "_hf_hook", None), "execution_device", None)
    return torch.device(executes_on) if device.type == "meta" and executes_on is not None else device
