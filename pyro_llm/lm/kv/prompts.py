"""A prompt's keys and values, stored once for all rows that continue it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class PromptBlock:
    """The keys and values of a prompt. Never written to.

    Attributes:
        keys: by the number of the layer. Each `[heads, length, head_dim]`.
        values: likewise.
        length: tokens of the prompt.
    """

    keys: Mapping[int, Tensor]
    values: Mapping[int, Tensor]
    length: int

    def first(self, length: int) -> PromptBlock:
        """Its first tokens, in the same memory."""
        keys, values = ({n: slots[:, :length] for n, slots in of.items()} for of in (self.keys, self.values))
        return PromptBlock(keys, values, length)


@dataclass(frozen=True)
class PromptSpan:
    """So many neighbouring rows that continue one prompt."""

    block: PromptBlock
    rows: int


def spans(blocks: Iterable[PromptBlock]) -> tuple[PromptSpan, ...]:
    """The prompts of rows in order as spans: few, if rows are sorted by their prompt."""
    result: list[PromptSpan] = []
    for block in blocks:
        if result and result[-1].block is block:
            result[-1] = PromptSpan(block, result[-1].rows + 1)
        else:
            result.append(PromptSpan(block, 1))
    return tuple(result)


def blocks(prompts: Sequence[PromptSpan]) -> list[PromptBlock]:
    """The prompt of each row."""
    return [span.block for span in prompts for _ in range(span.rows)]
