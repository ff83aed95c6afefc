"""Buffers of keys or values with room to grow, and rows moved from buffer to buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ROOM = 32
"""Free slots of a new buffer, where nobody says how many will be written."""


class SlotBuffer:
    """Slots of keys or values, `[rows, heads, capacity, head_dim]`, of which the first `filled` are written."""

    def __init__(self, slots: Tensor, filled: int) -> None:
        self.slots = slots
        self.filled = filled

    @property
    def capacity(self) -> int:
        """Slots there is room for."""
        return self.slots.shape[2]

    def filled_slots(self) -> Tensor:
        """The contiguous slots to take from; none where nothing is written yet, for what is free may hold anything."""
        return self.slots if self.filled else self.slots[:, :, :0]

    def append(self, used: int, more: Tensor) -> SlotBuffer:
        """Write slots after the first `used`: in place where they are free, else in a copy with more room."""
        end = used + more.shape[2]
        buffer = self
        if self.filled != used or end > self.capacity:
            buffer = self.copy(used, end - used + end // 4 + ROOM)
        buffer.slots[:, :, used:end] = more
        buffer.filled = end
        return buffer

    def copy(self, used: int, room: int, rows: Tensor | None = None) -> SlotBuffer:
        """The first `used` slots, of all rows or of some, in a buffer of their own with room for more."""
        rows = None if rows is None else rows.to(self.slots.device)
        count = self.slots.shape[0] if rows is None else rows.shape[0]
        slots = self.slots.new_empty(count, self.slots.shape[1], used + room, self.slots.shape[3])
        slots[:, :, :used] = self.slots[:, :, :used] if rows is None else self.slots[:, :, :used].index_select(0, rows)
        return SlotBuffer(slots, filled=used)


@dataclass(frozen=True)
class Move:
    """Which rows of a cache go where.

    Attributes:
        taken: rows of the source. Shape `[taken]`.
        origin: the slot of the source that becomes slot 0, negative where padding comes first. Shape `[taken]`.
        place: the rows of the result that they fill; None for all of them in order. Shape `[taken]`.
    """

    taken: Tensor
    origin: Tensor
    place: Tensor | None

    def to(self, device: torch.device) -> Move:
        """The same on a device."""
        place = None if self.place is None else self.place.to(device)
        return Move(self.taken.to(device), self.origin.to(device), place)

    def index(self, like: Tensor, width: int) -> Tensor:
        """What to take, as indices of the vectors of a contiguous buffer shaped like `like`. `[taken * heads * width]`.

        Padding repeats a slot of its row, so that it is finite.
        """
        heads, capacity = like.shape[1:3]
        slot = (self.origin.unsqueeze(-1) + torch.arange(width, device=like.device)).clamp(0, capacity - 1)
        head = self.taken.unsqueeze(-1) * heads + torch.arange(heads, device=like.device)
        return (head.unsqueeze(-1) * capacity + slot.unsqueeze(1)).flatten()


def gather_slots(sources: Sequence[tuple[Tensor, Move]], rows: int, width: int, room: int) -> SlotBuffer:
    """Rows of several buffers as one.

    Args:
        sources: contiguous slots, `[source rows, heads, capacity, head_dim]`, and what to take of them.
        rows: of the result.
        width: slots of the result that are filled.
        room: slots of the result that are free.
    """
    first = sources[0][0]
    _, heads, _, head_dim = first.shape
    result = first.new_empty(rows, heads, width + room, head_dim)
    for slots, move in sources if width else ():
        move = move.to(slots.device)  # layers of a model may be on several devices
        if slots.shape[2]:
            moved = slots.view(-1, head_dim).index_select(0, move.index(slots, width))
            moved = moved.view(-1, heads, width, head_dim)
        else:  # rows that have nothing after a shared prompt: padding only
            moved = slots.new_zeros(move.taken.shape[0], heads, width, head_dim)
        if move.place is None:
            result[:, :, :width] = moved
        else:
            result[move.place, :, :width] = moved
    return SlotBuffer(result, filled=width)
