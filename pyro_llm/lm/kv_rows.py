"""Rows of text in a key-value cache: every row's tokens are contiguous, and end together when rows are taken.

Holes between the tokens of a row are wrong in two ways: position ids counted from slots go astray, and a sliding
window counts slots, so that no position ids mend it. Rows that end early are therefore followed by unused slots, never
interrupted by them, and `take_rows` moves all rows to the right end before they are written on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.lm.kv_layer import Move, RowCache, RowLayer, gather_slots


@dataclass
class KVRows:
    """Rows in a key-value cache.

    Attributes:
        cache: keys and values, `[rows, heads, slots, head_dim]` a layer.
        starts: the slot of each row's first token. Shape `[rows]`.
        lengths: tokens of each row, prompt included. Shape `[rows]`.
    """

    cache: RowCache
    starts: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return self.starts.shape[0]

    @property
    def used(self) -> int:
        """Slots used, the same for all rows."""
        return self.cache.get_seq_length()

    @classmethod
    def empty(cls, layers: int, rows: int, device: torch.device) -> KVRows:
        """Rows without tokens, for a model of so many layers."""
        zeros = torch.zeros(rows, dtype=torch.long, device=device)
        return cls(RowCache([RowLayer() for _ in range(layers)]), zeros, zeros.clone())

    def attention_mask(self, more: int) -> Tensor:
        """The mask that leaves out slots before each row's first token, for a pass over `more` tokens.

        Slots after a row's last token are not left out: only tokens that nobody reads attend to them.
        """
        slot = torch.arange(self.used + more, device=self.starts.device)
        return (slot >= self.starts.unsqueeze(-1)).long()


def take_rows(sources: Sequence[tuple[KVRows, Sequence[int]]], order: Sequence[int], lengths: Sequence[int]) -> KVRows:
    """Rows of one or several caches as new rows, right-aligned, without slots that no row needs.

    Args:
        sources: caches, and the rows to take from each.
        order: the index, in the result, of each row taken, over all sources.
        lengths: tokens of each row of the result, as the host knows them.

    Returns:
        Rows that can be written on without a change to their sources.
    """
    device, width = sources[0][0].starts.device, max(lengths)
    ends = torch.tensor(lengths, device=device)
    in_order = len(sources) == 1 and list(order) == list(range(len(order)))
    if in_order and _lie_right(*sources[0], ends, width):
        layers = [layer.share() for layer in sources[0][0].cache.row_layers]
        return KVRows(RowCache(layers), width - ends, ends)

    moves: list[tuple[KVRows, Move]] = []
    begin = 0
    for rows, taken in sources:
        place = torch.tensor(order[begin : begin + len(taken)], device=device)
        index = torch.tensor(taken, device=device)
        begin += len(taken)
        origin = rows.starts[index] - (width - ends[place])
        moves.append((rows, Move(index, origin, None if in_order else place)))
    layers = []
    for number in range(len(sources[0][0].cache.row_layers)):
        keys, values = (
            gather_slots(
                [(getattr(rows.cache.row_layers[number], name), move) for rows, move in moves], len(ends), width
            )
            for name in ("keys", "values")
        )
        layers.append(RowLayer(keys, values, width))
    return KVRows(RowCache(layers), width - ends, ends)


def _lie_right(rows: KVRows, taken: Sequence[int], lengths: Tensor, width: int) -> bool:
    """Whether all rows of a cache are taken, in order, and end with its last slot already."""
    whole = rows.used == width and list(taken) == list(range(len(rows)))
    return whole and bool((rows.starts + lengths == width).all())
