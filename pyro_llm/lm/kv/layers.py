"""The layers of a cache whose rows can be forked and repacked: keys and values, recurrent states, or both."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import (
    Cache,
    CacheLayerMixin,
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from pyro_llm.errors import CapabilityError
from pyro_llm.lm.kv.slots import SlotBuffer
from pyro_llm.lm.kv.states import States, gather_states, states_of


@dataclass(frozen=True)
class LayerKind:
    """What a layer of a model remembers.

    Attributes:
        attends: whether it keeps keys and values. A layer that neither attends nor has states keeps nothing.
        window: tokens it attends to, itself included; None for all.
        states: recurrent or convolution states it keeps.
    """

    attends: bool
    window: int | None = None
    states: int = 0


class RowLayer(DynamicLayer):
    """Keys and values of full attention whose slots are never evicted, not even under a sliding window.

    A layer that evicts cannot be repacked, so the window is left to the attention. Writing a token into a buffer
    with room costs a half to a quarter of what concatenating it costs. Layers may share a buffer: the first to grow
    writes in it, the others see that their next slot is taken and copy.
    """

    def __init__(self, keys: SlotBuffer | None = None, values: SlotBuffer | None = None, used: int = 0) -> None:
        super().__init__()
        self.hold(keys, values, used)

    def hold(self, keys: SlotBuffer | None, values: SlotBuffer | None, used: int) -> None:
        """Have these slots, of which the first `used` are this layer's."""
        self.key_slots, self.value_slots, self.used = keys, values, used
        if keys is not None and values is not None:
            self.dtype, self.device, self.is_initialized = keys.slots.dtype, keys.slots.device, True
            self._show()

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append slots; returns all keys and all values, `[rows, heads, slots, head_dim]`."""
        if self.key_slots is None or self.value_slots is None:
            keys, values = (
                SlotBuffer(states.contiguous(), filled=states.shape[2]) for states in (key_states, value_states)
            )
        else:
            keys = self.key_slots.append(self.used, key_states)
            values = self.value_slots.append(self.used, value_states)
        self.hold(keys, values, self.used + key_states.shape[2])
        return self._show()

    def release(self) -> None:
        """Hold nothing any more, so that the memory can be used again."""
        self.key_slots = self.value_slots = self.keys = self.values = None
        self.is_initialized = False

    def get_seq_length(self) -> int:
        """Slots used."""
        return self.used

    def buffers(self) -> tuple[SlotBuffer, SlotBuffer]:
        """Its keys and values."""
        assert self.key_slots is not None and self.value_slots is not None, "nothing has been read yet"
        return self.key_slots, self.value_slots

    def _show(self) -> tuple[Tensor, Tensor]:
        keys, values = (buffer.slots[:, :, : self.used] for buffer in self.buffers())
        self.keys, self.values = keys, values
        return keys, values


class StateLayer(LinearAttentionLayer):
    """Recurrent and convolution states, a row of each for each row of text."""


class StateRowLayer(LinearAttentionAndFullAttentionLayer, RowLayer):  # type: ignore[misc, override]
    """Recurrent states beside keys and values."""

    def __init__(self, number_of_states: int = 1) -> None:
        super().__init__(number_of_states=number_of_states)
        self.hold(None, None, 0)

    def update(self, *args: object, **kwargs: object) -> tuple[Tensor, Tensor]:
        """Append slots; see `RowLayer`."""
        return RowLayer.update(self, *args, **kwargs)  # type: ignore[arg-type]

    def get_seq_length(self) -> int:
        """Slots used."""
        return self.used


class RowCache(Cache):
    """A cache of rows.

    Args:
        kinds: of its layers.

    Attributes:
        kinds: of its layers.
    """

    is_compileable = True  # asks transformers not to inspect the mask of a single token on the host, a synchronisation

    def __init__(self, kinds: Sequence[LayerKind]) -> None:
        super().__init__(layers=[_new_layer(kind) for kind in kinds])
        self.kinds = tuple(kinds)

    @property
    def row_layers(self) -> dict[int, RowLayer]:
        """The layers with keys and values, by their number."""
        return {number: layer for number, layer in enumerate(self.layers) if isinstance(layer, RowLayer)}

    @property
    def state_layers(self) -> list[LinearAttentionLayer]:
        """The layers with recurrent states."""
        return [layer for layer in self.layers if isinstance(layer, LinearAttentionLayer)]

    def states(self) -> Iterator[tuple[States, int, Tensor]]:
        """Each state that is there, with the dictionary and the key that hold it. Shape `[rows, ...]`."""
        for layer in self.state_layers:
            yield from states_of(layer)

    def with_states(self, sources: Sequence[tuple[RowCache, Tensor | None, Tensor | None]], rows: int) -> RowCache:
        """Fill the states of this cache from rows of others: each with the rows taken and the places they fill.

        None stands for all rows, and for all places in order.
        """
        of_sources = [cache.state_layers for cache, _, _ in sources]
        for number, layer in enumerate(self.state_layers):
            moves = [(layers[number], *move[1:]) for layers, move in zip(of_sources, sources, strict=True)]
            gather_states(layer, moves, rows)
        return self


def layer_kinds(config: PreTrainedConfig) -> list[LayerKind]:
    """What each layer of a model remembers.

    Raises:
        CapabilityError: some layer's memory is of a kind that cannot be moved from row to row.
    """
    return [_kind(layer) for layer in DynamicCache(config=config).layers]


def _kind(layer: CacheLayerMixin | LinearAttentionCacheLayerMixin | DummyLayer) -> LayerKind:
    if type(layer) is DynamicLayer:
        return LayerKind(attends=True)
    if type(layer) is DynamicSlidingWindowLayer:
        return LayerKind(attends=True, window=layer.sliding_window)
    if type(layer) is DummyLayer:
        return LayerKind(attends=False)
    continues = "conv_kernel_size" in inspect.signature(LinearAttentionLayer.update_conv_state).parameters
    if continues and isinstance(layer, LinearAttentionLayer):
        if type(layer) is LinearAttentionLayer:
            return LayerKind(attends=False, states=layer.number_of_states)
        if type(layer) is LinearAttentionAndFullAttentionLayer:
            return LayerKind(attends=True, states=layer.number_of_states)
    raise CapabilityError(
        f"a layer of the model remembers more than keys and values, or than states that continue ({layer}), and such a "
        "memory cannot be cut back and moved from row to row; take a model with plain attention or linear attention "
        "layers"
    )


def _new_layer(kind: LayerKind) -> CacheLayerMixin | LinearAttentionLayer | DummyLayer:
    if kind.states:
        return (StateRowLayer if kind.attends else StateLayer)(number_of_states=kind.states)
    return RowLayer() if kind.attends else DummyLayer()
