"""A cache layer that keeps every slot, in a buffer with room to grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

_ROOM = 32  # slots


class SlotBuffer:
    """Slots of keys or values, `[rows, heads, capacity, head_dim]`, of which the first `filled` are written."""

    def __init__(self, slots: Tensor, filled: int) -> None:
        self.slots = slots
        self.filled = filled

    def append(self, used: int, more: Tensor) -> SlotBuffer:
        """Write slots after the first `used`: in place where they are free, else in a copy with more room."""
        end = used + more.shape[2]
        buffer = self
        if self.filled != used or end > self.slots.shape[2]:
            rows, heads, _, width = self.slots.shape
            room = self.slots.new_empty(rows, heads, end + end // 4 + _ROOM, width)
            room[:, :, :used] = self.slots[:, :, :used]
            buffer = SlotBuffer(room, filled=end)
        buffer.slots[:, :, used:end] = more
        buffer.filled = end
        return buffer


class RowLayer(DynamicLayer):
    """A layer of full attention whose slots are never evicted, not even under a sliding window.

    A layer that evicts cannot be repacked, so the window is left to the attention mask. Writing a token into a buffer
    with room costs a half to a quarter of what concatenating it costs. Layers may share a buffer: the first to grow
    writes in it, the others see that their next slot is taken and copy.
    """

    def __init__(self, keys: SlotBuffer | None = None, values: SlotBuffer | None = None, used: int = 0) -> None:
        super().__init__()
        self.key_slots, self.value_slots, self.used = keys, values, used
        if keys is not None and values is not None:
            self.dtype, self.device, self.is_initialized = keys.slots.dtype, keys.slots.device, True
            self._show()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append slots; returns all keys and all values, `[rows, heads, slots, head_dim]`."""
        if self.key_slots is None or self.value_slots is None:
            self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
            self.key_slots, self.value_slots = (
                SlotBuffer(key_states, filled=key_states.shape[2]),
                SlotBuffer(value_states, filled=value_states.shape[2]),
            )
        else:
            self.key_slots = self.key_slots.append(self.used, key_states)
            self.value_slots = self.value_slots.append(self.used, value_states)
        self.used += key_states.shape[2]
        return self._show()

    def get_seq_length(self) -> int:
        """Slots used."""
        return self.used

    def share(self) -> RowLayer:
        """A layer with the same slots, which may grow on its own."""
        return RowLayer(self.key_slots, self.value_slots, self.used)

    def _show(self) -> tuple[Tensor, Tensor]:
        assert self.key_slots is not None and self.value_slots is not None
        keys = self.key_slots.slots[:, :, : self.used]
        values = self.value_slots.slots[:, :, : self.used]
        self.keys, self.values = keys, values
        return keys, values


class RowCache(Cache):
    """A cache of `RowLayer`s.

    Attributes:
        row_layers: its layers.
    """

    is_compileable = True  # asks transformers not to inspect the mask of a single token on the host, a synchronisation

    def __init__(self, layers: Sequence[RowLayer]) -> None:
        super().__init__(layers=list(layers))
        self.row_layers = list(layers)


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


def gather_slots(sources: Sequence[tuple[Tensor, Move]], rows: int, width: int) -> SlotBuffer:
    """Rows of several caches as one buffer.

    Args:
        sources: slots, `[source rows, heads, slots, head_dim]`, and what to take of them.
        rows: of the result.
        width: slots of the result.
    """
    first = sources[0][0]
    room = first.new_empty(rows, first.shape[1], width + _ROOM, first.shape[3])
    for slots, move in sources:
        index = move.origin.unsqueeze(-1) + torch.arange(width, device=slots.device)
        index = index.clamp(0, slots.shape[2] - 1)[:, None, :, None].expand(-1, slots.shape[1], -1, slots.shape[3])
        moved = slots.index_select(0, move.taken).gather(2, index)
        if move.place is None:
            room[:, :, :width] = moved
        else:
            room[move.place, :, :width] = moved
    return SlotBuffer(room, filled=width)
