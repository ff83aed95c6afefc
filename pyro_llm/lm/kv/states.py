"""Recurrent and convolution states of a layer: one of each for each row of text, which cannot be cut back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from transformers.cache_utils import LinearAttentionLayer

States = dict[int, Tensor | None]


def states_of(layer: LinearAttentionLayer) -> Iterator[tuple[States, int, Tensor]]:
    """Each state that a layer has, with the dictionary and the key that hold it. Shape `[rows, ...]`."""
    for states in (layer.conv_states, layer.recurrent_states):
        for number, state in states.items():
            if state is not None:
                yield states, number, state


def gather_states(
    layer: LinearAttentionLayer,
    sources: Sequence[tuple[LinearAttentionLayer, Tensor | None, Tensor | None]],
    rows: int,
) -> None:
    """Fill an empty layer with states from others.

    Args:
        layer: to be filled.
        sources: layers; the rows to take of each, None for all; the rows they become, None for all in order.
        rows: of the result.
    """
    first = sources[0][0]
    moves = [(source, (taken, place)) for source, taken, place in sources]
    layer.dtype, layer.device = first.dtype, first.device
    layer.has_previous_state = dict(first.has_previous_state)
    layer.conv_kernel_size = dict(first.conv_kernel_size)
    layer.is_conv_states_initialized = dict(first.is_conv_states_initialized)
    layer.is_recurrent_states_initialized = dict(first.is_recurrent_states_initialized)
    layer.conv_states = _gathered([(source.conv_states, *move) for source, move in moves], rows)
    layer.recurrent_states = _gathered([(source.recurrent_states, *move) for source, move in moves], rows)


def _gathered(sources: Sequence[tuple[States, Tensor | None, Tensor | None]], rows: int) -> States:
    result: States = dict.fromkeys(sources[0][0])
    for states, taken, place in sources:
        for number, state in states.items():
            if state is None:
                continue
            moved = state if taken is None else state.index_select(0, taken.to(state.device))
            if place is None:
                result[number] = moved
                continue
            whole = result[number]
            if whole is None:
                whole = result[number] = state.new_empty(rows, *state.shape[1:])
            whole[place.to(state.device)] = moved
    return result
