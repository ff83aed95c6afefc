"""Sampling from the language model at temperature 1, many prefixes at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import Cache, LlamaForCausalLM

from training.abacus.slab import slab_cache

ROWS = 768
"""Rows in a batch."""


@torch.inference_mode()
def complete(
    model: LlamaForCausalLM,
    prefixes: list[list[int]],
    generator: torch.Generator,
    longest: int = 160,
    progress: Callable[[int], None] = lambda rows: None,
) -> list[list[int]]:
    """One completion of each prefix, as tokens with the end token, or cut off at `longest` tokens.

    `progress` is told how many rows each batch has finished.
    """
    order = sorted(range(len(prefixes)), key=lambda i: (len(prefixes[i]), prefixes[i]))
    found: list[list[int]] = [[] for _ in prefixes]
    for first in range(0, len(order), ROWS):
        chosen = order[first : first + ROWS]
        for i, completion in zip(chosen, batch(model, [prefixes[i] for i in chosen], generator, longest), strict=True):
            found[i] = completion
        progress(len(chosen))
    return found


def batch(
    model: LlamaForCausalLM, prefixes: list[list[int]], generator: torch.Generator, longest: int
) -> list[list[int]]:
    """One completion of each prefix. Equal prefixes are read once, and rows leave the batch when enough have ended."""
    end = model.config.eos_token_id
    different = list(dict.fromkeys(map(tuple, prefixes)))
    place = {prefix: i for i, prefix in enumerate(different)}
    rows_of = torch.tensor([place[tuple(prefix)] for prefix in prefixes])
    cache = slab_cache(model.config.num_hidden_layers)
    mask, logits = read(model, different, cache)
    cache.batch_select_indices(rows_of)
    mask, logits = mask[rows_of], logits[rows_of]

    output = torch.full((len(prefixes), longest), end)
    rows, alive = torch.arange(len(prefixes)), torch.ones(len(prefixes), dtype=torch.bool)
    for t in range(longest):
        token = draw(logits, generator)
        output[rows[alive], t] = token[alive]
        alive &= token != end
        if not alive.any():
            break
        if alive.float().mean() < 0.8:
            kept = alive.nonzero()[:, 0]
            cache.batch_select_indices(kept)
            token, mask, rows, alive = token[kept], mask[kept], rows[kept], alive[kept]
        mask = torch.cat([mask, torch.ones(len(mask), 1, dtype=mask.dtype)], 1)
        logits = step(model, token[:, None], mask, cache)
    return [cut(row, end) for row in output.tolist()]


def read(model: LlamaForCausalLM, prefixes: list[tuple[int, ...]], cache: Cache) -> tuple[Tensor, Tensor]:
    """Fills the cache with prefixes, padded on the left; their mask `[rows, width]` and next logits."""
    width = max(map(len, prefixes))
    ids = torch.full((len(prefixes), width), model.config.pad_token_id)
    for i, prefix in enumerate(prefixes):
        ids[i, width - len(prefix) :] = torch.tensor(prefix)
    padding = width - torch.tensor([len(prefix) for prefix in prefixes])
    mask = (torch.arange(width) >= padding[:, None]).long()
    return mask, step(model, ids, mask, cache)


def step(model: LlamaForCausalLM, ids: Tensor, mask: Tensor, cache: Cache) -> Tensor:
    """Logits `[rows, vocabulary]` of the token after `ids` `[rows, new]`, the last ones under `mask`."""
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    seen = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=1)
    return seen.logits[:, -1]


def draw(logits: Tensor, generator: torch.Generator) -> Tensor:
    """A token a row, by inversion of the distribution function; shapes `[rows, vocabulary]` to `[rows]`."""
    below = logits.double().softmax(-1).cumsum(-1)
    level = torch.rand(len(below), 1, generator=generator, dtype=below.dtype) * below[:, -1:]
    return torch.searchsorted(below, level, right=True)[:, 0].clamp(max=below.shape[1] - 1)


def cut(row: list[int], end: int) -> list[int]:
    """A row up to its first end token, that one included."""
    return row[: row.index(end) + 1] if end in row else row
