"""What a token-by-token session asks of a model: next-token logits, and rows that can be written on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor

from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.memory import Memory

LogProbs = Callable[[Tensor], Tensor]
"""From logits to log-probabilities, over the last dimension."""

Start = Any
"""Where a text is stored that rows can go on from."""


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

    def read(self, tokens: Tensor) -> None:
        """Append given tokens, padded on the right with `PAD`, without scoring them."""
        ...

    def select(self, rows: Sequence[int], room: int) -> Branches:
        """Some of the rows as branches of their own, with room for so many more tokens."""
        ...

    def keep_only(self, rows: Sequence[int], room: int) -> None:
        """Go on with some of the rows, with room for so many more tokens; the others have left."""
        ...

    def starts(self) -> Sequence[Start]:
        """The rows as texts to go on from."""
        ...

    def kv_bytes(self) -> int:
        """Bytes of what the rows remember, what they share counted once; 0 where nothing is kept for a row."""
        ...


AnyBranches = TypeVar("AnyBranches", bound=Branches)


class Decoder(Protocol[AnyBranches]):
    """A model during one run: it remembers what it has read, addressed by the content of rows.

    Attributes:
        memory: what all decoders of the model may hold together.
    """

    memory: Memory

    def starts(self, prefix: Prefix) -> Sequence[Start]:
        """Where each row is stored; reads what it does not know yet."""
        ...

    def pending(self, starts: Sequence[Start]) -> Tensor:
        """Logits of the next token after each. `[starts, vocabulary_size]`."""
        ...

    def unread(self, prefix: Prefix) -> tuple[Prefix, Tensor]:
        """The distinct rows that are not stored: what is stored of each, and the tokens that follow it."""
        ...

    def fork(
        self,
        starts: Sequence[Start],
        room: int,
        steps: Sequence[object] | None = None,
        ended: AnyBranches | None = None,
    ) -> AnyBranches:
        """Branches to write on, no more than `room` tokens each.

        Args:
            starts: those of this decoder, of others of the same model, and of branches, in any order.
            room: tokens.
            steps: for each row, the step under which it will be kept. Then the texts at the starts are remembered by
                these branches only, and no start that anybody else holds may be used again. None to leave all that is
                remembered as it is.
            ended: branches that end with this, their rows being among the starts.
        """
        ...

    def keep(self, prefix: Prefix, branches: AnyBranches, begun: Sequence[int], kept: Tensor, step: object) -> None:
        """Remember rows that have been written on.

        Args:
            prefix: what the rows of the branches say now.
            branches: where they were written.
            begun: tokens since the prompt that each row began with.
            kept: which of the rows to remember. Boolean, shape `[rows]`.
            step: rows that are kept under the same one are forgotten together.
        """
        ...

    def note_drawn(self, text: Prefix) -> None:
        """Note that the last token of each row has been drawn from pending logits, and was not read since."""
        ...

    def drawn(self, prefix: Prefix, continuation: Tensor) -> int:
        """How many tokens of a continuation that comes to be read were noted so, and not read since."""
        ...

    def row_bytes(self, prefix: Prefix, more: int) -> int:
        """Bytes that the longest of these rows will take, with `more` tokens drawn; 0 where nothing is kept."""
        ...

    def kv_bytes(self) -> int:
        """Bytes remembered, whatever shares memory counted once."""
        ...
