"""Attention to a prompt that rows share: once for all of them, merged with each row's own slots by log-sum-exp.

The queries of all rows of a prompt are one matrix against its keys, so that these are read once instead of once a row.
Softmax over the union of two sets of keys is the mean of the softmaxes over each, weighted by their normalisers
(Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; for a shared prefix: Juravsky et al.,
"Hydragen", 2024). Scores are exponentiated and summed in float32 at least.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pyro_llm.lm.kv.prompts import PromptBlock
from pyro_llm.lm.kv.rows import KVRows

_LARGEST_SCORES = 1 << 24  # numbers held at once; 64 MiB in float32
_MASKED = -1e30  # finite, so that keys which are all masked give a normaliser of weight zero and not NaN
_AHEAD = 64  # slots
_PADDING, _OWN = "padding", "own"  # keys of biases that are kept


class SharedPromptPass:
    """What the attention of every layer needs to know of one forward pass over rows whose prompts are apart.

    Args:
        rows: before the pass.
        length: tokens read a row.
    """

    def __init__(self, rows: KVRows, length: int) -> None:
        self.rows, self._length, self._used = rows, length, rows.used
        self._biases: dict[object, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
        """Attention of one layer.

        Args:
            layer: its number.
            query: shape `[rows, heads, length, head_dim]`.
            key: the rows' own slots, those of this pass included. `[rows, key_heads, slots, head_dim]`.
            value: likewise.
            scaling: of the scores.

        Returns:
            Shape `[rows, heads, length, value_dim]`.
        """
        window = self.rows.cache.kinds[layer].window
        rows, heads, length, head_dim = query.shape
        grouped = (query * scaling).reshape(rows, key.shape[1], -1, length, head_dim)
        # Slots and tokens before these are outside the window of every query of the pass.
        first = 0 if window is None else max(0, self._used + 1 - window)
        key, value = key[:, :, first:], value[:, :, first:]
        bias = self._on(query.device, (window, _OWN), self._own_bias(first, window))
        results = []
        for block, here in self._pieces(heads * length * key.shape[2], heads * length):
            part = _own(grouped[here], key[here], value[here], None if bias is None else bias[here])
            seen = 0 if window is None else max(0, block.length + self._used - self.rows.latest_start + 1 - window)
            if seen < block.length:
                keys, values = block.keys[layer][:, seen:], block.values[layer][:, seen:]
                masked = self._prompt_bias(block, here, seen, window)
                masked = self._on(query.device, (window, here.start, here.stop), masked)
                part = part.merged(_shared(grouped[here], keys, values, masked))
            results.append(part.normalised())
        result = results[0] if len(results) == 1 else torch.cat(results)
        return result.to(query.dtype).reshape(rows, heads, length, -1)

    def _on(self, device: torch.device, name: object, bias: Tensor | None) -> Tensor | None:
        """A bias where a layer is; copied once a pass if that is not where the rows' numbers are."""
        if bias is None or bias.device == device:
            return bias
        if (device, name) not in self._biases:
            self._biases[device, name] = bias.to(device)
        return self._biases[device, name]

    def _pieces(self, own: int, a_token: int) -> Iterator[tuple[PromptBlock, slice]]:
        """Neighbouring rows of one prompt, as many as may have their scores held at once."""
        begin = 0
        for span in self.rows.prompts:
            end = begin + span.rows
            step = span.rows if self._length == 1 else max(1, _LARGEST_SCORES // (own + a_token * span.block.length))
            while begin < end:
                yield span.block, slice(begin, min(begin + step, end))
                begin += step
            begin = end

    def _own_bias(self, first: int, window: int | None) -> Tensor | None:
        """What is added to the scores of own slots. `[rows, length, slots]`; None where nothing is masked."""
        rows, end = self.rows, self._used + self._length
        if self._length == 1:
            if rows.latest_start <= first:
                return None
            # The same for every token of a step, but for its length: made once and cut.
            if _PADDING not in rows.biases or rows.biases[_PADDING].shape[-1] < end:
                rows.biases[_PADDING] = _bias(self._slots(0, end + _AHEAD) >= rows.starts[:, None, None])
            return rows.biases[_PADDING][:, :, first:end]
        if (window, _OWN) not in self._biases:
            slot, query = self._slots(first, end), self._slots(self._used, end).unsqueeze(-1)
            allowed = (slot >= rows.starts[:, None, None]) & (slot <= query)
            self._biases[window, _OWN] = _bias(allowed if window is None else allowed & (slot > query - window))
        return self._biases[window, _OWN]

    def _prompt_bias(self, block: PromptBlock, rows: slice, seen: int, window: int | None) -> Tensor | None:
        """What is added to the scores of a prompt from a token on. `[rows, length, tokens]`; None if nothing is."""
        if window is None or block.length + self._used + self._length <= window:
            return None
        key = (window, rows.start, rows.stop)
        if key not in self._biases:
            starts = self.rows.starts[rows, None, None]
            position = block.length + self._slots(self._used, self._used + self._length).unsqueeze(-1) - starts
            self._biases[key] = _bias(self._slots(seen, block.length) > position - window)
        return self._biases[key]

    def _slots(self, begin: int, end: int) -> Tensor:
        return torch.arange(begin, end, device=self.rows.starts.device)


@dataclass(frozen=True)
class _Partial:
    """Attention over some of the keys: sums of exponentials relative to a peak. All `[rows, ..., length, width]`."""

    peak: Tensor
    mass: Tensor
    total: Tensor

    @classmethod
    def of(cls, scores: Tensor, value: Tensor) -> _Partial:
        peak = scores.amax(-1, keepdim=True)
        weights = (scores - peak).exp_()
        return cls(peak, weights.sum(-1, keepdim=True), _wide(weights.to(value.dtype) @ value))

    def merged(self, other: _Partial) -> _Partial:
        peak = torch.maximum(self.peak, other.peak)
        mine, its = (self.peak - peak).exp_(), (other.peak - peak).exp_()
        return _Partial(peak, self.mass * mine + other.mass * its, self.total * mine + other.total * its)

    def normalised(self) -> Tensor:
        return self.total / self.mass


def _own(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> _Partial:
    """Each row's queries, `[rows, key_heads, group, length, head_dim]`, against its own slots."""
    rows, heads, group, length, head_dim = query.shape
    scores = _wide(query.reshape(rows, heads, group * length, head_dim) @ key.transpose(-1, -2))
    if bias is not None:
        scores.view(rows, heads, group, length, -1).add_(bias[:, None, None])
    part = _Partial.of(scores, value)
    return _Partial(*(of.view(rows, heads, group, length, -1) for of in (part.peak, part.mass, part.total)))


def _shared(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> _Partial:
    """All rows' queries as one matrix against the keys of a prompt, `[key_heads, tokens, head_dim]`."""
    rows, heads, group, length, head_dim = query.shape
    together = query.transpose(0, 1).reshape(heads, rows * group * length, head_dim)
    scores = _wide(torch.bmm(together, key.transpose(1, 2)))
    if bias is not None:
        scores.view(heads, rows, group, length, -1).add_(bias[:, None])
    part = _Partial.of(scores, value)
    return _Partial(
        *(of.view(heads, rows, group, length, -1).transpose(0, 1) for of in (part.peak, part.mass, part.total))
    )


def _wide(numbers: Tensor) -> Tensor:
    """In float32 where they are half as wide, else as they are."""
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _bias(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill_(~allowed, _MASKED)
