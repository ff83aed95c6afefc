"""Sampling and scoring token by token, over any decoder: the session of every local language model."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from pyro_llm.errors import ContextLengthError
from pyro_llm.lm.decoder import Decoder
from pyro_llm.lm.decoding import Decoding, restrict
from pyro_llm.lm.failures import not_a_number
from pyro_llm.lm.language_model import Continuation, LanguageModel, Prefix, SamplingKey
from pyro_llm.lm.prefixes import distinct, joined, take_prefix
from pyro_llm.lm.reading_desk import ReadingDesk, ReadRequest, Statistic
from pyro_llm.lm.sample_request import SampleRequest
from pyro_llm.lm.sampling_pool import SamplingPool
from pyro_llm.lm.state import PAD
from pyro_llm.lm.stopping import terminator
from pyro_llm.rendezvous import serve


class TokenSession:
    """A session that draws and scores tokens one after another from the logits of a decoder.

    Where several runs are made together, what they ask of one language model is done in common batches.
    """

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
            OutOfMemoryError: there is not enough memory for a single row.
        """
        request = SampleRequest(self._decoder, prefix, key, decoding.max_tokens)
        if len(prefix) == 0:
            return Continuation(request.tokens, request.log_prob)
        self._check_length(prefix, decoding.max_tokens)
        greedy = key.seed is None
        service = partial(SamplingPool, self._lm, decoding, greedy)
        return serve((SamplingPool, id(self._lm), decoding, greedy), service, request)

    @torch.no_grad()
    def score(self, prefix: Prefix, continuation: Tensor, decoding: Decoding) -> Tensor:
        """Log-probability that generation begins with `continuation`; see `Session`.

        It is 0 for padding only. It is `-inf` for what generation cannot begin with: tokens after EOS or after a
        completed stop string, more tokens than `max_tokens`, ids outside the vocabulary, padding before a token.

        Raises:
            ContextLengthError: a row with its continuation does not fit the context.
            LogitsError: the model gave NaN.
            OutOfMemoryError: there is not enough memory for a single row.
        """
        rows, device = len(prefix), prefix.tokens.device
        log_prob = torch.zeros(rows, dtype=torch.float64, device=device)
        lengths = (continuation != PAD).sum(-1)
        todo = lengths > 0

        possible, closed = self._possible(continuation, lengths, decoding)
        log_prob = torch.where(todo & ~possible, -torch.inf, log_prob)
        chosen = (todo & possible).nonzero().squeeze(-1)
        if len(chosen):
            scores = self._read(take_prefix(prefix, chosen), continuation[chosen], closed[chosen], decoding)
            log_prob[chosen] = scores
        return log_prob

    @torch.no_grad()
    def next_log_probs(self, prefix: Prefix, decoding: Decoding) -> Tensor:
        """Log-probabilities of the next token, `[rows, vocabulary_size]`; see `Session`.

        Raises:
            ContextLengthError: a row and one more token do not fit the context.
            OutOfMemoryError: there is not enough memory for a single row.
        """
        self._check_length(prefix, 1)
        begun, more = self._decoder.unread(prefix)
        if len(begun):
            still_open = torch.zeros(len(begun), dtype=torch.bool, device=more.device)
            self._serve(ReadRequest(self._decoder, begun, more, still_open, scored=False), decoding)
        return restrict(self._decoder.pending(self._decoder.starts(prefix)), decoding)

    @torch.no_grad()
    def statistics(self, prefix: Prefix, continuation: Tensor, statistic: Statistic) -> Tensor:
        """A function of the law of each token of a continuation, given what precedes the token; optional in a session.

        Args:
            prefix: the rows.
            continuation: tokens padded on the right with `PAD`. Shape `[rows, length]`.
            statistic: from log-probabilities, `[..., vocabulary_size]`, to numbers, `[...]`. Requests of several runs
                for the same function are read together.

        Returns:
            0 at padding. float64, shape `[rows, length]`.

        Raises:
            ContextLengthError: a row with its continuation does not fit the context.
            OutOfMemoryError: there is not enough memory for a single row.
        """
        values = torch.zeros(continuation.shape, dtype=torch.float64, device=continuation.device)
        chosen = (continuation != PAD).any(-1).nonzero().squeeze(-1)
        if len(chosen):
            prefix, tokens = take_prefix(prefix, chosen), continuation[chosen]
            self._check_length(prefix, tokens.shape[-1])
            still_open = torch.zeros(len(chosen), dtype=torch.bool, device=tokens.device)
            request = ReadRequest(self._decoder, prefix, tokens, still_open)
            values[chosen] = self._serve(request, Decoding(max_tokens=1), statistic)
        return values

    def note_drawn(self, prefix: Prefix, tokens: Tensor) -> None:
        """Note that tokens have been drawn from `next_log_probs`, so that they are not read when they are forwarded.

        Args:
            prefix: the rows.
            tokens: one for each row; those that end a text are never forwarded. Shape `[rows]`.
        """
        ends = torch.tensor([PAD, *self._lm.eos_token_ids], device=tokens.device)
        going_on = (~torch.isin(tokens, ends)).nonzero().squeeze(-1)
        if len(going_on):
            self._decoder.note_drawn(joined(take_prefix(prefix, going_on), tokens[going_on].unsqueeze(-1)))

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
        first, inverse = distinct(joined(prefix, continuation), prefix)
        prefix, continuation, closed = take_prefix(prefix, first), continuation[first], closed[first]
        self._check_length(prefix, continuation.shape[-1])
        log_prob = self._serve(ReadRequest(self._decoder, prefix, continuation, closed), decoding).sum(-1)
        if bool(log_prob.isnan().any()):
            raise not_a_number(self._lm.name)
        return log_prob[inverse]

    def _serve(self, request: ReadRequest, decoding: Decoding, statistic: Statistic | None = None) -> Tensor:
        desk = partial(ReadingDesk, self._lm, decoding, statistic)
        return serve((ReadingDesk, id(self._lm), decoding, statistic), desk, request)

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
