"""What a token-by-token session asks of a model: next-token logits, and rows that can be written on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from torch import Tensor

from pyro_llm.lm.language_model import Prefix

LogProbs = Callable[[Tensor], Tensor]
"""From logits to log-probabilities, over the last dimension."""


class Branches(Protocol):
    """Rows being written on, each with the logits of its next token pending."""

    @property
    def logits(self) -> Tensor:
        """Logits of the next token of each row. Shape `[rows, vocabulary_size]`."""
        ...

    def advance(self, tokens: Tensor, writing: Tensor) -> None:
        """Append a token to the rows that are writing, in one forward pass; the others stay as they are.

        Args:
            tokens: shape `[rows]`; any token of the vocabulary where a row is not writing.
            writing: boolean, shape `[rows]`. A row that has stopped writing never resumes.
        """
        ...

    def retain(self, rows: Tensor) -> None:
        """Go on with these rows only, in this order; the others are remembered as they are.

        Args:
            rows: indices among the rows that are here. Shape `[retained]`.
        """
        ...

    def extend(self, tokens: Tensor, closed: Tensor, log_probs: LogProbs) -> Tensor:
        """Append given tokens, teacher forced, and return the log-probability of each given what precedes it.

        Args:
            tokens: padded on the right with `PAD`. Shape `[rows, length]`.
            closed: rows that nothing will follow, so that their last token need not be read. Shape `[rows]`.
            log_probs: applied to the logits.

        Returns:
            0 at padding. float64, shape `[rows, length]`.
        """
        ...


AnyBranches = TypeVar("AnyBranches", bound=Branches)


class Decoder(Protocol[AnyBranches]):
    """A model during one run: it remembers what it has read, addressed by the content of rows."""

    def pending(self, prefix: Prefix) -> Tensor:
        """Logits of the next token of each row; reads what it does not know yet. `[rows, vocabulary_size]`."""
        ...

    def fork(self, prefix: Prefix, room: int) -> AnyBranches:
        """Branches to write on, one for each row of the prefix, and no more than `room` tokens each."""
        ...

    def keep(self, prefix: Prefix, branches: AnyBranches, rows: Tensor) -> None:
        """Remember those rows of branches that a mask names, among those there were when they were forked.

        Args:
            prefix: what all of them say now.
            branches: where they were written.
            rows: boolean, shape `[rows]`.
        """
        ...

    def kv_bytes(self) -> int:
        """Bytes of keys, values and recurrent states held."""
        ...
