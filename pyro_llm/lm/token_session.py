"""Sampling and scoring token by token, over any decoder: the session of every local language model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pyro_llm.errors import ContextLengthError, LogitsError
from pyro_llm.lm.decoder import Branches, Decoder
from pyro_llm.lm.decoding import Decoding, restrict
from pyro_llm.lm.drawing import Drawing
from pyro_llm.lm.language_model import Continuation, LanguageModel, Prefix, SamplingKey
from pyro_llm.lm.state import PAD
from pyro_llm.lm.stopping import terminator
from pyro_llm.run_scope import current_cost

_CHECK_EVERY = 8  # tokens between two looks, from the host, at whether an accelerator has finished every row
_COMPACT_AT = 0.75  # of the rows: when no more go on, moving them costs less than to drag the others along


class TokenSession:
    """A session that draws and scores tokens one after another from the logits of a decoder."""

    def __init__(self, lm: LanguageModel, decoder: Decoder[Any]) -> None:
        self._lm = lm
        self._decoder = decoder

    @property
    def kv_bytes(self) -> int:
        """Bytes that the session holds of what it has read, prompts included; 0 if its decoder holds no tensors."""
        return self._decoder.kv_bytes()

    @torch.no_grad()
    def sample(self, prefix: Prefix, decoding: Decoding, key: SamplingKey) -> Continuation:
        """Draw tokens after each row until a stop string, EOS or `decoding.max_tokens`; see `Session`.

        Raises:
            ContextLengthError: a row and `max_tokens` more tokens do not fit the context.
            LogitsError: the model gave NaN.
        """
        device = prefix.tokens.device
        drawing = Drawing(terminator(self._lm, decoding.stop), key, decoding.max_tokens)
        if len(prefix) == 0:
            return Continuation(drawing.tokens, drawing.log_prob)
        self._check_length(prefix, decoding.max_tokens)

        branches: Branches | None = None
        for index in range(decoding.max_tokens):
            logits = self._decoder.pending(prefix) if branches is None else branches.logits
            token, writing = drawing.draw(restrict(logits, decoding))
            looks = _looks(device, index)
            if looks and not writing.any():
                break
            if branches is None:
                branches = self._decoder.fork(prefix, room=decoding.max_tokens)
            branches.advance(token, writing)  # after the last token too: the next step begins with these logits
            if looks and index + 1 < decoding.max_tokens:
                staying = drawing.active.nonzero().squeeze(-1)
                if len(staying) == 0:
                    break
                if len(staying) <= _COMPACT_AT * len(token):
                    drawing.leave(staying)
                    branches.retain(staying)
        drawing.leave()

        current_cost().lm_tokens_sampled += int((drawing.tokens != PAD).sum())
        if branches is not None:
            self._decoder.keep(_joined(prefix, drawing.tokens), branches, ~drawing.closed)
        return Continuation(drawing.tokens, self._checked(drawing.log_prob))

    @torch.no_grad()
    def score(self, prefix: Prefix, continuation: Tensor, decoding: Decoding) -> Tensor:
        """Log-probability that generation begins with `continuation`; see `Session`.

        It is 0 for padding only. It is `-inf` for what generation cannot begin with: tokens after EOS or after a
        completed stop string, more tokens than `max_tokens`, ids outside the vocabulary, padding before a token.

        Raises:
            ContextLengthError: a row with its continuation does not fit the context.
            LogitsError: the model gave NaN.
        """
        rows, device = len(prefix), prefix.tokens.device
        log_prob = torch.zeros(rows, dtype=torch.float64, device=device)
        lengths = (continuation != PAD).sum(-1)
        todo = lengths > 0

        possible, closed = self._possible(continuation, lengths, decoding)
        log_prob = torch.where(todo & ~possible, -torch.inf, log_prob)
        chosen = (todo & possible).nonzero().squeeze(-1)
        if len(chosen):
            log_prob[chosen] = self._read(_rows(prefix, chosen), continuation[chosen], closed[chosen], decoding)
        return log_prob

    @torch.no_grad()
    def next_log_probs(self, prefix: Prefix, decoding: Decoding) -> Tensor:
        """Log-probabilities of the next token, `[rows, vocabulary_size]`; see `Session`.

        Raises:
            ContextLengthError: a row and one more token do not fit the context.
        """
        self._check_length(prefix, 1)
        return restrict(self._decoder.pending(prefix), decoding)

    @torch.no_grad()
    def statistics(self, prefix: Prefix, continuation: Tensor, statistic: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of the law of each token of a continuation, given what precedes the token; optional in a session.

        Args:
            prefix: the rows.
            continuation: tokens padded on the right with `PAD`. Shape `[rows, length]`.
            statistic: from log-probabilities, `[..., vocabulary_size]`, to numbers, `[...]`.

        Returns:
            0 at padding. float64, shape `[rows, length]`.

        Raises:
            ContextLengthError: a row with its continuation does not fit the context.
        """
        rows = len(prefix)
        if rows == 0 or not bool((continuation != PAD).any()):
            return torch.zeros(continuation.shape, dtype=torch.float64, device=continuation.device)
        self._check_length(prefix, continuation.shape[-1])
        decoding = Decoding(max_tokens=continuation.shape[-1])
        nothing = torch.zeros(rows, dtype=torch.bool, device=continuation.device)

        def spread(logits: Tensor) -> Tensor:  # so that whichever token is looked up, the statistic is found
            return statistic(restrict(logits, decoding)).unsqueeze(-1).expand(logits.shape)

        branches = self._decoder.fork(prefix, room=continuation.shape[-1])
        values = branches.extend(continuation, nothing, spread)
        self._decoder.keep(_joined(prefix, continuation), branches, ~nothing)
        return values

    def _possible(self, continuation: Tensor, lengths: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
        """Which rows generation can begin with, and which of them end with EOS."""
        ending = terminator(self._lm, decoding.stop)
        position = torch.arange(continuation.shape[-1], device=continuation.device)
        states = ending.states(torch.where(continuation < self._lm.vocabulary_size, continuation, PAD))
        ended_before = (ending.ended(states) & (position < lengths.unsqueeze(-1) - 1)).any(-1)
        filled = position < lengths.unsqueeze(-1)
        in_vocabulary = (continuation >= 0) & (continuation < self._lm.vocabulary_size)
        possible = (in_vocabulary == filled).all(-1) & ~ended_before & (lengths <= decoding.max_tokens)
        return possible, (states == ending.by_eos).any(-1)

    def _read(self, prefix: Prefix, continuation: Tensor, closed: Tensor, decoding: Decoding) -> Tensor:
        """Score rows that generation can begin with, each distinct one once."""
        continuation = continuation[:, : int((continuation != PAD).sum(-1).max())]
        first, inverse = _distinct(_joined(prefix, continuation), prefix)
        prefix, continuation, closed = _rows(prefix, first), continuation[first], closed[first]
        self._check_length(prefix, continuation.shape[-1])
        self._decoder.pending(prefix)
        branches = self._decoder.fork(prefix, room=continuation.shape[-1])
        log_prob = branches.extend(continuation, closed, lambda logits: restrict(logits, decoding)).sum(-1)
        self._decoder.keep(_joined(prefix, continuation), branches, ~closed)
        return self._checked(log_prob)[inverse]

    def _checked(self, log_prob: Tensor) -> Tensor:
        if bool(log_prob.isnan().any()):
            raise LogitsError(
                f"{self._lm.name!r} gave logits that are NaN. In half precision this is an overflow: load the model "
                "with dtype='bfloat16' or 'float32'. If it is in one of these, its weights are broken."
            )
        return log_prob

    def _check_length(self, prefix: Prefix, more: int) -> None:
        limit = self._lm.context_length
        if limit is None or len(prefix) == 0:
            return
        prompt, written = len(prefix.prompt_tokens), int(prefix.lengths.max())
        if prompt + written + more > limit:
            raise ContextLengthError(
                f"{self._lm.name!r} has a context of {limit} tokens, and this step may need {prompt + written + more}: "
                f"{prompt} of the prompt, {written} written so far and {more} more; shorten the prompt, lower "
                "max_tokens or the number of steps, or take a model with a longer context"
            )


def _looks(device: torch.device, index: int) -> bool:
    """Whether the host looks, after this token, if every row has ended: on accelerators a look waits for them."""
    return device.type == "cpu" or index % _CHECK_EVERY == _CHECK_EVERY - 1


def _rows(prefix: Prefix, rows: Tensor) -> Prefix:
    return Prefix(prefix.prompt_tokens, prefix.tokens[rows], prefix.lengths[rows])


def _joined(prefix: Prefix, continuation: Tensor) -> Prefix:
    """The rows with their continuation, both padded on the right."""
    more = (continuation != PAD).sum(-1)
    width = prefix.tokens.shape[-1] + continuation.shape[-1]
    tokens = torch.full((len(prefix), width), PAD, dtype=torch.long, device=continuation.device)
    tokens[:, : prefix.tokens.shape[-1]] = prefix.tokens
    place = prefix.lengths.unsqueeze(-1) + torch.arange(continuation.shape[-1], device=continuation.device)
    tokens.scatter_(-1, place, continuation)
    return Prefix(prefix.prompt_tokens, tokens, prefix.lengths + more)


def _distinct(joined: Prefix, prefix: Prefix) -> tuple[Tensor, Tensor]:
    """Indices of the first row of each distinct (prefix, continuation), and for each row the index of its own."""
    index: dict[tuple[bytes, int], int] = {}
    first: list[int] = []
    inverse: list[int] = []
    for row, key in enumerate(zip(joined.keys(), prefix.lengths.tolist(), strict=True)):
        if key not in index:
            index[key] = len(first)
            first.append(row)
        inverse.append(index[key])
    device = prefix.tokens.device
    return torch.tensor(first, device=device), torch.tensor(inverse, device=device)
