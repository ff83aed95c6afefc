"""Rows of text in a key-value cache: every row's tokens are contiguous, and end together when rows are taken.

Holes between the tokens of a row are wrong in two ways: position ids counted from slots go astray, and a sliding
window counts slots, so that no position ids mend it. Rows that end early are therefore followed by unused slots, never
interrupted by them, and `take_rows` moves all rows to the right end before they are written on, dropping what is
padding in all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pyro_llm.lm.kv.layers import LayerKind, RowCache
from pyro_llm.lm.kv.prompts import PromptBlock, PromptSpan, blocks, spans
from pyro_llm.lm.kv.slots import ROOM, Move, SlotBuffer, gather_slots


@dataclass(eq=False)
class KVRows:
    """Rows in a key-value cache.

    Attributes:
        cache: keys and values, `[rows, heads, slots, head_dim]` a layer, and recurrent states.
        starts: the slot of each row's first token that is in a slot. Shape `[rows]`.
        lengths: tokens of each row, prompt included. Shape `[rows]`.
        prompts: the prompts that are stored apart, for neighbouring rows; none where slots hold the prompt too.
        latest_start: no row starts later. On the host, so that nobody waits for the device to learn it.
    """

    cache: RowCache
    starts: Tensor
    lengths: Tensor
    prompts: tuple[PromptSpan, ...] = ()
    latest_start: int = 0
    biases: dict[object, Tensor] = field(default_factory=dict, repr=False)
    """What the attention keeps of these rows, while they stay where they are."""

    def __len__(self) -> int:
        return self.starts.shape[0]

    @property
    def used(self) -> int:
        """Slots used, the same for all rows."""
        return self.cache.get_seq_length()

    @property
    def room(self) -> int:
        """Slots that are free."""
        buffers = [buffer for layer in self.cache.row_layers.values() for buffer in layer.buffers()]
        return min(buffer.capacity for buffer in buffers) - self.used

    @classmethod
    def empty(cls, kinds: Sequence[LayerKind], rows: int, device: torch.device) -> KVRows:
        """Rows without tokens, for a model with layers of these kinds."""
        zeros = torch.zeros(rows, dtype=torch.long, device=device)
        return cls(RowCache(kinds), zeros, zeros.clone())

    def nothing(self) -> KVRows:
        """No rows at all, of the same kind."""
        return KVRows.empty(self.cache.kinds, 0, self.starts.device)

    def attention_mask(self, more: int) -> Tensor:
        """The mask that leaves out slots before each row's first token, for a pass over `more` tokens.

        Slots after a row's last token are not left out: only tokens that nobody reads attend to them.
        """
        slot = torch.arange(self.used + more, device=self.starts.device)
        return (slot >= self.starts.unsqueeze(-1)).long()

    def select(self, chosen: Tensor, numbers: Sequence[int], room: int, given_up: bool = False) -> KVRows:
        """Some of the rows, in slots of their own with room for more.

        Args:
            chosen: their indices. Shape `[chosen]`.
            numbers: the same, as the host knows them.
            room: tokens that there will be room for.
            given_up: these rows are asked for nothing any more; each layer is released once it is copied.
        """
        cache = RowCache(self.cache.kinds).with_states([(self.cache, chosen, None)], len(numbers))
        for number, layer in self.cache.row_layers.items():
            keys, values = (buffer.copy(layer.used, room, chosen) for buffer in layer.buffers())
            cache.row_layers[number].hold(keys, values, layer.used)
            if given_up:
                layer.release()
        of_rows = blocks(self.prompts)
        prompts = spans(of_rows[row] for row in numbers) if of_rows else ()
        return KVRows(cache, self.starts[chosen], self.lengths[chosen], prompts, self.latest_start)

    def with_prompt_apart(self, length: int | None = None) -> KVRows:
        """A single row whose slots hold its prompt first, as one with that prompt in a block.

        Args:
            length: tokens of the prompt; None for all that it has.
        """
        length = self.used if length is None else length
        layers = self.cache.row_layers
        keys, values = (
            {n: getattr(layer, name)[0, :, :length].clone() for n, layer in layers.items()}
            for name in ("keys", "values")
        )
        block = PromptBlock(keys, values, length)
        cache = RowCache(self.cache.kinds)
        for number, layer in cache.row_layers.items():
            own, more = layers[number].buffers(), self.used - length
            rest_keys, rest_values = (SlotBuffer(of.slots[:, :, length : self.used].clone(), more) for of in own)
            layer.hold(rest_keys, rest_values, more)
        index = torch.zeros(1, dtype=torch.long, device=self.starts.device)
        cache.with_states([(self.cache, index, None)], 1)
        return KVRows(cache, torch.zeros_like(self.starts), self.lengths, (PromptSpan(block, 1),))

    def tensors(self) -> Iterator[Tensor]:
        """All that holds keys, values and states; rows may share some of it with others."""
        for layer in self.cache.row_layers.values():
            yield from (buffer.slots for buffer in layer.buffers())
        for _, _, state in self.cache.states():
            yield state
        for span in self.prompts:
            yield from (*span.block.keys.values(), *span.block.values.values())


def take_rows(
    sources: Sequence[tuple[KVRows, Sequence[int]]],
    order: Sequence[int],
    lengths: Sequence[int],
    room: int = ROOM,
    given_up: Collection[KVRows] = (),
) -> KVRows:
    """Rows of one or several caches as new rows, right-aligned, without slots that no row needs.

    Args:
        sources: caches, and the rows to take from each.
        order: the index, in the result, of each row taken, over all sources.
        lengths: tokens of each row of the result, as the host knows them: all tokens of the row taken or, where no
            layer is recurrent, the first of them.
        room: tokens that there will be room for.
        given_up: sources that nobody will ask for again. Each of their layers is released as soon as it has been
            moved, so that they and the result are never in memory both.

    Returns:
        Rows that can be written on without a change to their sources.
    """
    device = sources[0][0].starts.device
    prompts = _prompts(sources, order)
    apart = [block.length for block in blocks(prompts)] or [0] * len(lengths)
    in_slots = [length - elsewhere for length, elsewhere in zip(lengths, apart, strict=True)]
    width = max(in_slots)
    ends, totals = torch.tensor([in_slots, list(lengths)], device=device).unbind()
    in_order = len(sources) == 1 and list(order) == list(range(len(order)))
    cache = RowCache(sources[0][0].cache.kinds)
    if in_order and _lie_right(*sources[0], ends, width, room):
        for number, layer in sources[0][0].cache.row_layers.items():
            cache.row_layers[number].hold(*layer.buffers(), layer.used)
        cache.with_states([(sources[0][0].cache, None, None)], len(ends))
        return KVRows(cache, width - ends, totals, prompts, width - min(in_slots))

    moves: list[tuple[KVRows, Move]] = []
    begin = 0
    for rows, taken in sources:
        place = torch.tensor(order[begin : begin + len(taken)], device=device)
        index = torch.tensor(taken, device=device)
        begin += len(taken)
        origin = rows.starts[index] - (width - ends[place])
        moves.append((rows, Move(index, origin, None if in_order else place)))
    for number, layer in cache.row_layers.items():
        buffers = [rows.cache.row_layers[number].buffers() for rows, _ in moves]
        keys, values = (
            gather_slots(
                [(both[which].filled_slots(), move) for both, (_, move) in zip(buffers, moves, strict=True)],
                len(ends),
                width,
                room,
            )
            for which in (0, 1)
        )
        layer.hold(keys, values, width)
        del buffers
        for rows in given_up:
            rows.cache.row_layers[number].release()
    cache.with_states([(rows.cache, move.taken, move.place) for rows, move in moves], len(ends))
    return KVRows(cache, width - ends, totals, prompts, width - min(in_slots))


def _prompts(sources: Sequence[tuple[KVRows, Sequence[int]]], order: Sequence[int]) -> tuple[PromptSpan, ...]:
    taken = [of_rows[row] for rows, chosen in sources if (of_rows := blocks(rows.prompts)) for row in chosen]
    return spans(block for _, block in sorted(zip(order, taken, strict=bool(taken)), key=lambda pair: pair[0]))


def _lie_right(rows: KVRows, taken: Sequence[int], ends: Tensor, width: int, room: int) -> bool:
    """Whether all rows of a cache are taken, in order, and end with its last slot already, with room after it."""
    if rows.used != width or list(taken) != list(range(len(rows))):
        return False
    for layer in rows.cache.row_layers.values():
        if any(buffer.filled != width or buffer.capacity < width + room for buffer in layer.buffers()):
            return False
    return bool((rows.starts + ends == width).all())
