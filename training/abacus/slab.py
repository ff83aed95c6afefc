"""A key-value cache that grows in place: concatenating a token at a time copies the whole cache each time."""

from __future__ import annotations

from torch import Tensor
from transformers import Cache, DynamicLayer

ROOM = 64
"""Tokens for which room is made at a time."""


class SlabLayer(DynamicLayer):
    """Keys and values `[rows, heads, tokens, width]` that are the front part of larger buffers."""

    room: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Writes the new states behind those that are there, and returns all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        used, new = self.get_seq_length(), key_states.shape[-2]
        if self.room is None or self.room[0].shape[-2] < used + new:
            rows, heads, _, width = key_states.shape
            shape = (rows, heads, used + new + ROOM, width)
            self.room = key_states.new_empty(shape), value_states.new_empty(shape)
            if used:
                self.room[0][:, :, :used], self.room[1][:, :, :used] = self.keys, self.values
        self.room[0][:, :, used : used + new], self.room[1][:, :, used : used + new] = key_states, value_states
        self.keys, self.values = (buffer[:, :, : used + new] for buffer in self.room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Chooses rows, each any number of times."""
        super().batch_select_indices(indices)
        self.room = None


def slab_cache(layers: int) -> Cache:
    """An empty cache of `layers` layers."""
    return Cache(layers=[SlabLayer() for _ in range(layers)])
