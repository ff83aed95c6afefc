"""Rows of prefixes made, taken, joined with what follows them, and told apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.state import PAD


def padded(rows: Sequence[Sequence[int]], device: torch.device, padding: int = PAD) -> Tensor:
    """Rows of tokens as a tensor, filled up on the right. At least one row. int64 `[rows, longest]`.

    Example:
        >>> padded([[5, 6], [7]], torch.device("cpu"))
        tensor([[ 5,  6],
                [ 7, -1]])
    """
    width = max(map(len, rows))
    filled = [[*row, *[padding] * (width - len(row))] for row in rows]
    return torch.tensor(filled, dtype=torch.long, device=device)


def take_prefix(prefix: Prefix, rows: Tensor) -> Prefix:
    """Some of the rows."""
    return Prefix(prefix.prompt_tokens, prefix.tokens[rows], prefix.lengths[rows])


def joined(prefix: Prefix, continuation: Tensor) -> Prefix:
    """The rows with their continuation, both padded on the right."""
    more = (continuation != PAD).sum(-1)
    width = prefix.tokens.shape[-1] + continuation.shape[-1]
    tokens = torch.full((len(prefix), width), PAD, dtype=torch.long, device=continuation.device)
    tokens[:, : prefix.tokens.shape[-1]] = prefix.tokens
    place = prefix.lengths.unsqueeze(-1) + torch.arange(continuation.shape[-1], device=continuation.device)
    tokens.scatter_(-1, place, continuation)
    return Prefix(prefix.prompt_tokens, tokens, prefix.lengths + more)


def distinct(text: Prefix, prefix: Prefix) -> tuple[Tensor, Tensor]:
    """Indices of the first row of each distinct (prefix, text), and for each row the index of its own.

    Args:
        text: what the rows say.
        prefix: how they begin.
    """
    index: dict[tuple[bytes, int], int] = {}
    first: list[int] = []
    inverse: list[int] = []
    for row, key in enumerate(zip(text.keys(), prefix.lengths.tolist(), strict=True)):
        if key not in index:
            index[key] = len(first)
            first.append(row)
        inverse.append(index[key])
    device = prefix.tokens.device
    return torch.tensor(first, device=device), torch.tensor(inverse, device=device)
