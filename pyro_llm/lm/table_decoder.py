"""Reads a table of next-token probabilities as a decoder: prefixes are nodes of a tree."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_llm.lm.decoder import LogProbs
from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.state import PAD
from pyro_llm.run_scope import current_cost


class PrefixTree:
    """The prefixes met so far as nodes of a tree, so that rows of text are rows of node numbers.

    Args:
        table: log-probabilities of the next token after a prefix, float64 `[vocabulary_size]`. Asked once for each.
        vocabulary_size: of the table.
    """

    root = 0

    def __init__(self, table: Callable[[tuple[int, ...]], Tensor], vocabulary_size: int) -> None:
        self._table = table
        self._size = vocabulary_size
        self._prefixes: list[tuple[int, ...]] = [()]
        self._child = torch.full((1, vocabulary_size), -1)
        self._log_probs = torch.full((1, vocabulary_size), torch.nan, dtype=torch.float64)

    def log_probs(self, nodes: Tensor) -> Tensor:
        """Log-probabilities of the token after each node; the table is asked only now. `[rows, vocabulary_size]`."""
        rows = self._log_probs[nodes]
        unknown = nodes[rows[:, 0].isnan()].unique()
        if len(unknown):
            for node in unknown.tolist():
                self._log_probs[node] = self._table(self._prefixes[node])
            rows = self._log_probs[nodes]
        return rows

    def descend(self, nodes: Tensor, tokens: Tensor) -> Tensor:
        """The nodes reached from nodes by tokens. Shapes `[rows]`."""
        reached = self._child[nodes, tokens]
        if (reached < 0).any():
            size, start = self._size, len(self._prefixes)
            edges = (nodes * size + tokens)[reached < 0].unique()
            self._prefixes += [(*self._prefixes[edge // size], edge % size) for edge in edges.tolist()]
            self._child.view(-1)[edges] = torch.arange(start, start + len(edges))
            self._child = torch.cat([self._child, torch.full((len(edges), size), -1)])
            unknown = torch.full((len(edges), size), torch.nan, dtype=torch.float64)
            self._log_probs = torch.cat([self._log_probs, unknown])
            reached = self._child[nodes, tokens]
        return reached


class TableDecoder:
    """Reads the table; counts what a model that remembers every prefix of the run would have read."""

    def __init__(self, tree: PrefixTree) -> None:
        self._tree = tree
        self._read: set[int] = set()

    def pending(self, prefix: Prefix) -> Tensor:
        """Logits of the next token, float64; see `Decoder`."""
        return self._tree.log_probs(self._nodes(prefix))

    def fork(self, prefix: Prefix, room: int) -> TableBranches:
        """Rows to write on, of any length; see `Decoder`."""
        return TableBranches(self._tree, self._nodes(prefix), self._read)

    def keep(self, prefix: Prefix, branches: TableBranches, rows: Tensor) -> None:
        """Nothing: the tree remembers; see `Decoder`."""

    def kv_bytes(self) -> int:
        """0: a table has no keys and values."""
        return 0

    def _nodes(self, prefix: Prefix) -> Tensor:
        nodes = torch.full((len(prefix),), self._tree.root)
        met = {self._tree.root}
        for position, tokens in enumerate(prefix.tokens.unbind(-1)):
            on = (prefix.lengths > position).nonzero().squeeze(-1)
            nodes[on] = self._tree.descend(nodes[on], tokens[on])
            met.update(nodes.unique().tolist())
        unread = met - self._read
        if unread:
            current_cost().lm_calls += 1
            current_cost().lm_tokens_forwarded += len(unread - {self._tree.root})
            self._read |= unread
        return nodes


class TableBranches:
    """Rows of text as nodes of the tree; see `Branches`."""

    def __init__(self, tree: PrefixTree, nodes: Tensor, read: set[int]) -> None:
        self._tree, self._nodes, self._read = tree, nodes, read

    @property
    def logits(self) -> Tensor:
        """Logits of the next token of each row, float64. Shape `[rows, vocabulary_size]`."""
        return self._tree.log_probs(self._nodes)

    def advance(self, tokens: Tensor, writing: Tensor) -> None:
        """Append a token to the rows that are writing; see `Branches`."""
        on = writing.nonzero().squeeze(-1)
        self._nodes[on] = self._tree.descend(self._nodes[on], tokens[on])
        self._read.update(self._nodes[on].unique().tolist())
        current_cost().lm_calls += 1
        current_cost().lm_tokens_forwarded += len(on)

    def retain(self, rows: Tensor) -> None:
        """Go on with these rows only; see `Branches`."""
        self._nodes = self._nodes[rows]

    def extend(self, tokens: Tensor, closed: Tensor, log_probs: LogProbs) -> Tensor:
        """Append given tokens and score each; see `Branches`."""
        lengths = (tokens != PAD).sum(-1)
        scores = torch.zeros(tokens.shape, dtype=torch.float64)
        for position, column in enumerate(tokens.unbind(-1)):
            terms = log_probs(self.logits).gather(-1, column.clamp(min=0).unsqueeze(-1)).squeeze(-1)
            scores[:, position] = torch.where(column != PAD, terms, 0.0)
            reading = (lengths - closed.long()) > position
            if reading.any():
                self.advance(column.clamp(min=0), reading)
        return scores
