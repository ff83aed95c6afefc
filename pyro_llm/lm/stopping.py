"""When a step ends: stop strings and EOS, compiled into one table over the vocabulary.

Stop strings are matched over bytes by the automaton of Aho and Corasick ("Efficient string matching", 1975), so a
string is found within a token, across tokens, or ending inside one. Running the automaton over the bytes of every
token, from every state, gives a table by which the device follows all rows with one lookup a token.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from pyro_llm.errors import UnknownStopError
from pyro_llm.lm.language_model import LanguageModel


class Terminator:
    """Follows rows of tokens until a stop string or EOS ends them.

    A row's state is an integer. `start` is the state before the first token of a step; `ended` states are absorbing.

    Attributes:
        table: the state after a state and a token. int32, shape `[states, vocabulary_size]`.
        by_stop: the state of rows that a stop string ended.
        by_eos: the state of rows that EOS ended.
    """

    start = 0

    def __init__(self, table: Tensor) -> None:
        self.table = table
        self.by_stop, self.by_eos = table.shape[0] - 2, table.shape[0] - 1

    def begin(self, rows: int) -> Tensor:
        """The states of rows before their first token. Shape `[rows]`."""
        return torch.full((rows,), self.start, dtype=torch.int32, device=self.table.device)

    def advance(self, states: Tensor, tokens: Tensor) -> Tensor:
        """The states after one further token a row; `tokens` are ids, not padding. Shapes `[rows]`."""
        return self.table[states, tokens]

    def ended(self, states: Tensor) -> Tensor:
        """Whether rows have ended. Shape of `states`."""
        return states >= self.by_stop

    def states(self, tokens: Tensor) -> Tensor:
        """The state after each token of rows; padding (negative ids) leaves it unchanged.

        Args:
            tokens: shape `[rows, length]`.
        """
        state, columns = self.begin(tokens.shape[0]), []
        for column in tokens.unbind(-1):
            state = torch.where(column >= 0, self.advance(state, column.clamp(min=0)), state)
            columns.append(state)
        return torch.stack(columns, -1) if columns else tokens.new_empty(tokens.shape, dtype=torch.int32)


_terminators: WeakKeyDictionary[LanguageModel, dict[tuple[str, ...], Terminator]] = WeakKeyDictionary()


def terminator(lm: LanguageModel, stop: tuple[str, ...]) -> Terminator:
    """The terminator of a language model and a set of stop strings, compiled once.

    Raises:
        UnknownStopError: no sequence of tokens of the vocabulary spells a stop string.
    """
    known = _terminators.setdefault(lm, {})
    if stop not in known:
        table = _compile(lm.token_bytes(), stop, lm.eos_token_ids, lm.name)
        known[stop] = Terminator(torch.from_numpy(table).to(lm.device))
    return known[stop]


def _compile(tokens: Sequence[bytes], stop: tuple[str, ...], eos_token_ids: Sequence[int], name: str) -> np.ndarray:
    vocabulary = _ByteColumns(tokens)
    patterns = [string.encode() for string in stop]
    for string, pattern in zip(stop, patterns, strict=True):
        if not _reachable(vocabulary.run(_automaton([pattern]))):
            raise UnknownStopError(
                f"the vocabulary of {name!r} cannot produce the stop string {string!r}: some of its characters are in "
                "no token; give a stop string that the model can write"
            )
    matching = vocabulary.run(_automaton(patterns))  # its last state is "matched"
    by_eos = np.full((1, len(tokens)), len(matching), dtype=np.int32)
    table = np.concatenate([matching, by_eos])
    table[: len(matching) - 1, list(eos_token_ids)] = len(matching)
    return table


def _automaton(patterns: Sequence[bytes]) -> np.ndarray:
    """Next states, `[states, 256]`: state 0 is the root, the last state is absorbing and means "matched"."""
    children: list[dict[int, int]] = [{}]
    final = [False]
    for pattern in patterns:
        node = 0
        for byte in pattern:
            if byte not in children[node]:
                children.append({})
                final.append(False)
                children[node][byte] = len(children) - 1
            node = children[node][byte]
        final[node] = True

    matched = len(children)
    step = np.zeros((matched + 1, 256), dtype=np.int32)
    step[matched] = matched
    failure, queue = [0] * len(children), deque([0])
    while queue:  # breadth first, so that the failure state of a node is complete before the node
        node = queue.popleft()
        step[node] = step[failure[node]] if node else 0
        final[node] |= final[failure[node]]
        for byte, child in children[node].items():
            failure[child] = int(step[node, byte])
            step[node, byte] = child
            queue.append(child)
    is_final = np.array([*final, True])
    return np.where(is_final[step] | is_final[:, None], matched, step).astype(np.int32)


class _ByteColumns:
    """The bytes of all tokens, position by position, so that automata run over the vocabulary in numpy."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        lengths = np.fromiter((len(token) for token in tokens), dtype=np.int64, count=len(tokens))
        self.order = np.argsort(-lengths, kind="stable")  # longest first: those with a byte at a position lead
        self.longer_than = [int((lengths > position).sum()) for position in range(int(lengths.max(initial=0)))]
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1][self.order]
        text = np.frombuffer(b"".join(tokens), dtype=np.uint8)
        self.columns = [text[starts[:count] + position] for position, count in enumerate(self.longer_than)]

    def run(self, step: np.ndarray) -> np.ndarray:
        """State after each token from each state. `[states, 256]` -> `[states, vocabulary_size]`."""
        states = len(step)
        reached = np.repeat(np.arange(states, dtype=np.int32)[:, None], len(self.order), axis=1)
        for count, column in zip(self.longer_than, self.columns, strict=True):
            for state in range(states):
                reached[state, :count] = step[reached[state, :count], column]
        table = np.empty_like(reached)
        table[:, self.order] = reached
        return table


def _reachable(table: np.ndarray) -> bool:
    """Whether the last state can be reached from state 0."""
    seen = {0}
    frontier = [0]
    while frontier:
        following = {int(state) for state in np.unique(table[frontier.pop()])} - seen
        seen |= following
        frontier.extend(following)
    return len(table) - 1 in seen
