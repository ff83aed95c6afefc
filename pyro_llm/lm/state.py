"""The state of a text being written: token ids, never re-tokenised text, one row per particle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Size, Tensor

from pyro_llm.errors import OptionError, PromptError
from pyro_llm.lm.batch_texts import SCALAR_ADVICE, RowText, batch_texts, particles_share_execution, refuse
from pyro_llm.lm.language_model import LanguageModel, Prefix, Session
from pyro_llm.run_scope import current_run_scope

_WRITTEN_TENSOR = re.compile(r"(?<![\w.])tensor\((?:\[|[-+.\d]|nan|inf|True|False)")

PAD = -1
"""Fills rows after their last token. It is no token of any vocabulary, so lengths can be read off."""


class _Lineage:
    """What all states that descend from one prompt share: a session, made when first asked for."""

    session: Session | None = None

    def __reduce__(self) -> tuple[type[_Lineage], tuple[()]]:
        return _Lineage, ()  # a copy starts without a session


@dataclass(frozen=True, eq=False, repr=False)
class TextState:
    """A prompt and what has been written after it, for every element of a batch. Immutable.

    Attributes:
        lm: the language model that writes.
        prompt: the prompt as the user gave it, before any chat template.
        prompt_tokens: the prompt's token ids. Shape `[prompt_length]`.
        tokens: token ids since the prompt, padded on the right with `PAD`. Shape `batch_shape + [length]`.
        finished: rows that write no more. Shape `batch_shape`.
    """

    lm: LanguageModel
    prompt: str
    prompt_tokens: Tensor
    tokens: Tensor
    finished: Tensor
    _judged: Mapping[Any, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    _lineage: _Lineage = field(default_factory=_Lineage)

    @classmethod
    def begin(cls, lm: LanguageModel, prompt: str, prompt_tokens: list[int]) -> TextState:
        """The state, of empty batch shape, right after a prompt.

        Raises:
            PromptError: the prompt is no string, has a tensor written out in it, or is made from one particle's text.
        """
        check_prompt(prompt)
        return cls(
            lm=lm,
            prompt=prompt,
            prompt_tokens=torch.tensor(prompt_tokens, dtype=torch.long, device=lm.device),
            tokens=torch.empty(0, dtype=torch.long, device=lm.device),
            finished=torch.zeros((), dtype=torch.bool, device=lm.device),
        )

    @property
    def batch_shape(self) -> Size:
        """Shape of the batch of texts."""
        return self.tokens.shape[:-1]

    @cached_property
    def lengths(self) -> Tensor:
        """Tokens since the prompt. Shape `batch_shape`."""
        return (self.tokens != PAD).sum(-1)

    @property
    def session(self) -> Session:
        """The session that continues this text: that of the run in progress, else one of this state's lineage."""
        scope = current_run_scope()
        if scope is not None:
            return scope.resource(self.lm, self.lm.session)
        if self._lineage.session is None:
            self._lineage.session = self.lm.session()
        return self._lineage.session

    @property
    def texts(self) -> np.ndarray:
        """The texts since the prompt, as an object array of `str`. Shape `batch_shape`.

        In a run that executes the program once for all particles, texts of several rows are no single string, nor a
        condition for all: f-strings, `str()`, `in` and `if` raise a BatchedBranchError. Row by row all works.
        """
        rows = self.tokens.reshape(self.finished.numel(), self.tokens.shape[-1]).tolist()
        texts = np.empty(len(rows), dtype=object)
        texts[:] = [self.lm.decode([token for token in row if token != PAD]) for row in rows]
        return batch_texts(texts.reshape(tuple(self.batch_shape)))

    def append(self, step: Tensor) -> TextState:
        """The state after a further step of tokens.

        Args:
            step: token ids padded on the right with `PAD`, shape `batch_shape + [step_length]`; batch shapes broadcast.

        Raises:
            OptionError: `step` is no tensor of token ids.
        """
        if not isinstance(step, Tensor):
            raise OptionError(
                f"append({step!r}): give token ids, as an LLM site has for its value. Fixed text belongs in the "
                "prompt; what a language model is to have written is observed: pyro.sample(name, LLM(...), obs=tokens)."
            )
        batch_shape = torch.broadcast_shapes(self.batch_shape, step.shape[:-1])
        before = self.tokens.expand(batch_shape + self.tokens.shape[-1:])
        step = step.expand(batch_shape + step.shape[-1:])
        joined = torch.cat([before, step], -1)
        order = torch.argsort((joined == PAD).to(torch.int8), dim=-1, stable=True)
        joined = joined.gather(-1, order)
        joined = joined[..., : int((joined != PAD).sum(-1).max())] if joined.numel() else joined

        ended = torch.zeros(batch_shape, dtype=torch.bool, device=step.device)
        for eos in self.lm.eos_token_ids:
            ended = ended | (step == eos).any(-1)
        judged = {reward: lengths.expand(batch_shape) for reward, lengths in self._judgements().items()}
        state = replace(
            self, tokens=joined, finished=self.finished.expand(batch_shape) | ended, _judged=MappingProxyType(judged)
        )
        return state

    def append_token(self, token: Tensor) -> TextState:
        """The state after a single further token (a draw of `NextToken`), of shape `batch_shape`."""
        return self.append(token.unsqueeze(-1))

    def finish(self, rows: Tensor) -> TextState:
        """The state in which `rows` (a mask of shape `batch_shape`) write no more, whatever they ended with."""
        judged = MappingProxyType(self._judgements())
        return replace(self, finished=self.finished | rows, _judged=judged)

    def truncate(self, lengths: Tensor) -> TextState:
        """The state as it was after the first `lengths` tokens of each row; rows that lose some are still writing.

        Args:
            lengths: tokens since the prompt that are kept, shape `batch_shape`.
        """
        places = torch.arange(self.tokens.shape[-1], device=self.tokens.device)
        tokens = self.tokens.masked_fill(places >= lengths.unsqueeze(-1), PAD)
        finished = self.finished & (lengths >= self.lengths)
        return replace(self, tokens=tokens, finished=finished, _judged=MappingProxyType({}))

    def prefix(self, rows: Tensor | None = None) -> Prefix:
        """The flattened rows of this state, or those that an index of flattened rows selects."""
        tokens = self.tokens.reshape(self.finished.numel(), self.tokens.shape[-1])
        lengths = self.lengths.reshape(-1)
        if rows is not None:
            tokens, lengths = tokens[rows], lengths[rows]
        return Prefix(self.prompt_tokens, tokens, lengths)

    def map_tensors(self, fn: Callable[[Tensor, int], Tensor]) -> TextState:
        """Apply `fn(tensor, event_dim)` to each batched tensor: how an engine expands, gathers and reshapes states."""
        judged = {reward: fn(lengths, 0) for reward, lengths in self._judged.items()}
        state = replace(
            self, tokens=fn(self.tokens, 1), finished=fn(self.finished, 0), _judged=MappingProxyType(judged)
        )
        state._asked.update(self._asked)
        return state

    def expand(self, batch_shape: Size | tuple[int, ...]) -> TextState:
        """The same texts, broadcast on the left to `batch_shape`."""
        batch_shape = Size(batch_shape)
        return self.map_tensors(
            lambda tensor, event_dim: tensor.expand(batch_shape + tensor.shape[tensor.dim() - event_dim :])
        )

    @staticmethod
    def stack(states: Sequence[TextState]) -> TextState:
        """States of one prompt and of equal batch shapes, as one state with a new leading batch dimension.

        Raises:
            ValueError: the states differ in their language model or prompt.
        """
        first, width = states[0], max(state.tokens.shape[-1] for state in states)
        if any(state.lm is not first.lm or state.prompt != first.prompt for state in states):
            raise ValueError("texts of different language models or prompts are not one state")
        tokens = [torch.nn.functional.pad(s.tokens, (0, width - s.tokens.shape[-1]), value=PAD) for s in states]
        rewards = {reward for state in states for reward in state._judgements()}
        judged = {
            reward: torch.stack([s._judgements().get(reward, torch.full_like(s.lengths, -1)) for s in states])
            for reward in rewards
        }
        state = replace(
            first,
            tokens=torch.stack(tokens),
            finished=torch.stack([s.finished for s in states]),
            _judged=MappingProxyType(judged),
        )
        return state

    # A factor concerns a prefix. A row that has not advanced since a reward judged it must not be judged again, or
    # texts that end early would be weighed once for every step that others still take. So a state knows, for each
    # reward of the run in progress, how long each row was when it was last judged: this also says which prefix that
    # was, for factors that compare two. What other runs judged is their own affair.

    @cached_property
    def _asked(self) -> set[Any]:
        return set()

    def _judgements(self) -> dict[Any, Tensor]:
        return {key: self.lengths if key in self._asked else self._judged[key] for key in {*self._judged, *self._asked}}

    def judged_lengths(self, reward: object) -> Tensor:
        """Tokens of the prefix of each row that `reward` judged last, at an earlier state; -1: none. `batch_shape`."""
        lengths = self._judged.get(_in_this_run(reward))
        return torch.full_like(self.lengths, -1) if lengths is None else lengths

    def judged(self, reward: object) -> Tensor:
        """Rows whose present text `reward` has judged already, at an earlier state. Shape `batch_shape`."""
        return self.judged_lengths(reward) == self.lengths

    def record_judgement(self, reward: object) -> None:
        """Note, for the states that follow this one, that `reward` has judged its texts."""
        self._asked.add(_in_this_run(reward))

    def __getstate__(self) -> dict[str, Any]:
        """Without what rewards have judged: that belongs to the run in progress, and rewards may not be picklable."""
        state = {name: value for name, value in self.__dict__.items() if name not in ("lengths", "_asked")}
        return state | {"_judged": {}}

    def __str__(self) -> str:
        if self.tokens.numel() and self.finished.numel() > 1:
            refuse("makes one string of a state with the texts of all particles")
        return repr(self)

    def __format__(self, format_spec: str) -> str:
        return format(str(self), format_spec)

    def __repr__(self) -> str:
        shape = f"batch_shape={tuple(self.batch_shape)}, " if self.batch_shape else ""
        first = self.texts.flat[0] if self.finished.numel() else ""  # of `flat`: a plain string, in a run too
        finished = int(self.finished.sum())
        return f"TextState({shape}prompt={self.prompt!r}, finished={finished}/{self.finished.numel()}, first={first!r})"


def _in_this_run(reward: Any) -> tuple[object, Any]:
    """The key of a reward in what a state knows of judgements: other runs have their own."""
    scope = current_run_scope()
    return (None if scope is None else scope.key), reward


def check_prompt(prompt: object) -> None:
    """Raise PromptError for a prompt that is no string, has a tensor written out in it, or is one particle's text."""
    if not isinstance(prompt, str):
        advice = ""
        if isinstance(prompt, list | tuple):
            advice = " Several problems are for `run_each` of an algorithm."
        elif isinstance(prompt, np.ndarray) and particles_share_execution():
            advice = f" {SCALAR_ADVICE}"
        raise PromptError(
            f"The prompt {prompt!r} is a {type(prompt).__name__}: give a string, one for all texts.{advice}"
        )
    if isinstance(prompt, RowText) and particles_share_execution():
        raise PromptError(
            f"The prompt {str(prompt)!r} is made from the text of one particle: all particles share one prompt. "
            + SCALAR_ADVICE
        )
    written = _WRITTEN_TENSOR.search(prompt)
    if written is not None:
        raise PromptError(
            f"The prompt has a tensor written out in it, {prompt[written.start() : written.start() + 40]!r}...: all "
            "particles share one prompt, and a latent value, of which each has its own, cannot stand in it. Run a "
            'program whose prompt depends on a latent value with particles="scalar" (of `SMC` or `Importance`): it is '
            'then executed once for each particle, and may write f"{n.item()}". '
            "A prompt that is about tensors is to say torch.tensor(...)."
        )
