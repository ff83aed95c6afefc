"""A language model given by a table: every sequence can be enumerated, so that inference can be checked exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from pyro_llm.lm.state import TextState
from pyro_llm.lm.table_decoder import PrefixTree, TableDecoder
from pyro_llm.lm.token_session import TokenSession

_SUM_TOLERANCE = 1e-9


class TableLM:
    """A language model whose next-token probabilities are a function of the tokens since the prompt.

    Ground truth for tests and documentation. The prompt's text does not enter the law, and is not encoded.

    Args:
        conditional: maps the token ids since the prompt, a tuple, to the probabilities of the next token (a sequence
            or tensor of `len(vocabulary)` numbers). It must be a pure function: each prefix is asked for once.
        vocabulary: the string of each token.
        eos_token_id: the token that ends a text, or None if none does. Its string is not part of the text.
        name: for messages.

    Raises:
        ValueError: the vocabulary is empty, or repeats a string; or, when a prefix is met, its probabilities have
            the wrong shape, are negative or do not sum to 1 within 1e-9.

    Example:
        >>> lm = TableLM(lambda tokens: [0.5, 0.25, 0.25], vocabulary=["a", "b", "<eos>"], eos_token_id=2)
        >>> [(lm.decode(tokens), round(math.exp(log_prob), 4)) for tokens, log_prob in lm.enumerate(max_tokens=1)]
        [('a', 0.5), ('b', 0.25), ('', 0.25)]
    """

    context_length: int | None = None
    device = torch.device("cpu")

    def __init__(
        self,
        conditional: Callable[[tuple[int, ...]], Sequence[float] | Tensor],
        vocabulary: Sequence[str],
        eos_token_id: int | None,
        name: str = "table",
    ) -> None:
        self.name = name
        self.conditional = conditional
        self.vocabulary = list(vocabulary)
        self.vocabulary_size = len(self.vocabulary)
        if not self.vocabulary or len(set(self.vocabulary)) < self.vocabulary_size:
            raise ValueError(f"vocabulary must hold distinct token strings, at least one, not {self.vocabulary!r}")
        if eos_token_id is not None and not 0 <= eos_token_id < self.vocabulary_size:
            raise ValueError(f"eos_token_id {eos_token_id} is not an index of a vocabulary of {self.vocabulary_size}")
        self.eos_token_ids: tuple[int, ...] = () if eos_token_id is None else (eos_token_id,)
        self._tree = PrefixTree(self.log_probs, self.vocabulary_size)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, the longest token that fits first.

        Raises:
            ValueError: no token fits at some place of the text.
        """
        strings = {token: id for id, token in enumerate(self.vocabulary) if token and id not in self.eos_token_ids}
        longest = max(map(len, strings), default=0)
        ids, at = [], 0
        while at < len(text):
            fitting = (text[at : at + size] for size in range(longest, 0, -1))
            token = next((string for string in fitting if string in strings), None)
            if token is None:
                raise ValueError(f"no token of the vocabulary {self.vocabulary!r} fits at {text[at:]!r} in {text!r}")
            ids.append(strings[token])
            at += len(token)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of token ids, EOS left out."""
        return "".join(self.vocabulary[id] for id in token_ids if id not in self.eos_token_ids)

    def token_bytes(self) -> list[bytes]:
        """The bytes of each token, EOS as `b""`."""
        return [b"" if id in self.eos_token_ids else token.encode() for id, token in enumerate(self.vocabulary)]

    def prompt(self, text: str = "") -> TextState:
        """The state of a text that has just begun."""
        return TextState.begin(self, text, [])

    def session(self) -> TokenSession:
        """A fresh session."""
        return TokenSession(self, TableDecoder(self._tree))

    def log_probs(self, tokens: Sequence[int]) -> Tensor:
        """Log-probabilities of the token after `tokens`, checked and normalised. float64 `[vocabulary_size]`."""
        tokens = tuple(tokens)
        probabilities = torch.as_tensor(self.conditional(tokens), dtype=torch.float64).detach()
        where = f"the conditional probabilities of TableLM {self.name!r} after {tokens}"
        if probabilities.shape != (self.vocabulary_size,):
            raise ValueError(f"{where} have shape {tuple(probabilities.shape)}, not ({self.vocabulary_size},)")
        if not (probabilities >= 0).all():
            raise ValueError(f"{where} are not all non-negative numbers: {probabilities.tolist()}")
        total = float(probabilities.sum())
        if not abs(total - 1) <= _SUM_TOLERANCE:
            raise ValueError(f"{where} sum to {total!r}, not to 1")
        return (probabilities / total).log()

    def enumerate(self, max_tokens: int) -> Iterator[tuple[tuple[int, ...], float]]:
        """Every sequence of positive probability that ends with EOS or has `max_tokens` tokens.

        Yields:
            Token ids, EOS included, and the sequence's log-probability. The probabilities sum to 1.
        """
        stack: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
        while stack:
            tokens, log_prob = stack.pop()
            if len(tokens) == max_tokens or (tokens and tokens[-1] in self.eos_token_ids):
                yield tokens, log_prob
                continue
            following = enumerate(self.log_probs(tokens).tolist())
            stack.extend(reversed([((*tokens, id), log_prob + term) for id, term in following if term > -math.inf]))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_tree"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tree = PrefixTree(self.log_probs, self.vocabulary_size)

    def __repr__(self) -> str:
        eos = self.eos_token_ids[0] if self.eos_token_ids else None
        return f"TableLM(vocabulary={self.vocabulary!r}, eos_token_id={eos}, name={self.name!r})"
