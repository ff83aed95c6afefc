"""The log-probabilities of what a session has drawn or scored, so that they are never computed a second time.

A second forward pass in another batch differs by rounding (in bfloat16 by a tenth of a nat and more), and the weight
of a particle must not. The ledger is addressed by content, so replaying and resampling need not tell it anything.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from hashlib import blake2b

import torch
from torch import Tensor

from pyro_llm.lm.decoding import Decoding
from pyro_llm.lm.language_model import Prefix
from pyro_llm.lm.state import PAD

_MOST_ENTRIES = 1 << 17

Key = tuple[bytes, Decoding]


class Ledger:
    """Log-probabilities of continuations, by prefix, continuation and decoding; the oldest are forgotten."""

    def __init__(self, most_entries: int = _MOST_ENTRIES) -> None:
        self._entries: OrderedDict[Key, float] = OrderedDict()
        self._most_entries = most_entries

    def enter(self, prefix: Prefix, continuation: Tensor, decoding: Decoding, log_prob: Tensor) -> None:
        """Note the log-probability of each row; rows that are noted already keep what they have."""
        for key, value in zip(_keys(prefix, continuation, decoding), log_prob.tolist(), strict=True):
            self._entries.setdefault(key, value)
        while len(self._entries) > self._most_entries:
            self._entries.popitem(last=False)

    def look_up(self, prefix: Prefix, continuation: Tensor, decoding: Decoding) -> tuple[Tensor, Tensor]:
        """The log-probability of each row, 0 where unknown, and the mask of those known. Shapes `[rows]`."""
        found = [self._entries.get(key) for key in _keys(prefix, continuation, decoding)]
        device = continuation.device
        log_prob = torch.tensor([value or 0.0 for value in found], dtype=torch.float64, device=device)
        return log_prob, torch.tensor([value is not None for value in found], dtype=torch.bool, device=device)


def _keys(prefix: Prefix, continuation: Tensor, decoding: Decoding) -> Iterator[Key]:
    rows, lengths = continuation.cpu().numpy(), (continuation != PAD).sum(-1).tolist()
    for before, row, length in zip(prefix.keys(), rows, lengths, strict=True):
        digest = blake2b(len(before).to_bytes(8, "little"), digest_size=16)
        digest.update(before)
        digest.update(row[:length].tobytes())
        yield digest.digest(), decoding
