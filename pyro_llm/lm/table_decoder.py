"""Reads a table of next-token probabilities as a decoder: prefixes are nodes of a tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pyro_llm.lm.decoder import LogProbs
from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.memory import Memory
from pyro_llm.lm.prefixes import joined
from pyro_llm.lm.state import PAD
from pyro_llm.run_scope import claim, current_cost


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
        self._drawn: set[int] = set()  # and not read since
        self.memory = Memory(None, torch.device("cpu"))

    def starts(self, prefix: Prefix) -> list[int]:
        """The node of each row; see `Decoder`."""
        nodes, met = self._path(prefix)
        unread = met - self._read
        if unread:
            tokens = len(unread - {self._tree.root})
            read = tokens - len(unread & self._drawn)
            claim(lm_calls=1, lm_tokens_forwarded=tokens, lm_tokens_read=read)
            current_cost().lm_calls += 1
            current_cost().lm_tokens_forwarded += tokens
            current_cost().lm_tokens_read += read
            self._note_read(unread)
        return nodes.tolist()

    def pending(self, starts: Sequence[int]) -> Tensor:
        """Logits of the next token, float64; see `Decoder`."""
        return self._tree.log_probs(torch.tensor(starts, dtype=torch.long))

    def unread(self, prefix: Prefix) -> tuple[Prefix, Tensor]:
        """Nothing: what `starts` has to read costs no pass over a model; see `Decoder`."""
        nothing = prefix.tokens[:0]
        return Prefix(prefix.prompt_tokens, nothing, prefix.lengths[:0]), nothing

    def fork(
        self,
        starts: Sequence[int],
        room: int,
        steps: Sequence[object] | None = None,
        ended: TableBranches | None = None,
    ) -> TableBranches:
        """Rows to write on, of any length: places in a tree, which hold no memory to give up; see `Decoder`."""
        return TableBranches(self._tree, torch.tensor(starts, dtype=torch.long))

    def keep(self, prefix: Prefix, branches: TableBranches, begun: Sequence[int], kept: Tensor, step: object) -> None:
        """Note what has been read: the tree remembers; see `Decoder`."""
        self._note_read(self._path(prefix)[1])

    def _note_read(self, nodes: set[int]) -> None:
        self._read |= nodes
        self._drawn -= nodes

    def note_drawn(self, text: Prefix) -> None:
        """Note what has been drawn from pending logits; see `Decoder`."""
        self._drawn |= set(self._path(text)[0].tolist()) - self._read

    def drawn(self, prefix: Prefix, continuation: Tensor) -> int:
        """How much of a continuation is so; see `Decoder`."""
        if not self._drawn:
            return 0
        return len(self._drawn & (self._path(joined(prefix, continuation))[1] - self._path(prefix)[1]))

    def row_bytes(self, prefix: Prefix, more: int) -> int:
        """Nothing; see `Decoder`."""
        return 0

    def kv_bytes(self) -> int:
        """Nothing: tables belong to no run; see `Decoder`."""
        return 0

    def _path(self, prefix: Prefix) -> tuple[Tensor, set[int]]:
        """The node of each row, and all nodes on the way to them."""
        nodes = torch.full((len(prefix),), self._tree.root)
        met = {self._tree.root}
        for position, tokens in enumerate(prefix.tokens.unbind(-1)):
            on = (prefix.lengths > position).nonzero().squeeze(-1)
            nodes[on] = self._tree.descend(nodes[on], tokens[on])
            met.update(nodes.unique().tolist())
        return nodes, met


class TableBranches:
    """Rows of text as nodes of the tree; see `Branches`."""

    def __init__(self, tree: PrefixTree, nodes: Tensor) -> None:
        self._tree, self._nodes = tree, nodes

    @property
    def logits(self) -> Tensor:
        """Logits of the next token of each row, float64. Shape `[rows, vocabulary_size]`."""
        return self._tree.log_probs(self._nodes)

    def advance(self, tokens: Tensor, writing: Tensor) -> None:
        """Append a token to the rows that are writing; see `Branches`."""
        claim(lm_calls=1)
        on = writing.nonzero().squeeze(-1)
        self._nodes[on] = self._tree.descend(self._nodes[on], tokens[on])
        current_cost().lm_calls += 1

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

    def read(self, tokens: Tensor) -> None:
        """Append given tokens; see `Branches`."""
        for column in tokens.unbind(-1):
            self.advance(column.clamp(min=0), column != PAD)

    def select(self, rows: Sequence[int], room: int) -> TableBranches:
        """Some of the rows; see `Branches`."""
        return TableBranches(self._tree, self._nodes[torch.tensor(rows, dtype=torch.long)])

    def keep_only(self, rows: Sequence[int], room: int) -> None:
        """Go on with some of the rows; see `Branches`."""
        self._nodes = self._nodes[torch.tensor(rows, dtype=torch.long)]

    def starts(self) -> list[int]:
        """The nodes; see `Branches`."""
        return self._nodes.tolist()

    def kv_bytes(self) -> int:
        """Nothing; see `Branches`."""
        return 0
