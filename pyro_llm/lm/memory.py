"""How much memory a model's rows of text may take: what is there, what is held, and what goes when it is too much."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import WeakSet

import torch
from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.validation import as_integer

if TYPE_CHECKING:
    from pyro_llm.lm.kv.rows import KVRows

_FAILED_ALLOCATIONS = ("DefaultCPUAllocator", "MPS backend out of memory")

DEFAULT_SHARE = 0.5
"""Of the memory that is free when the model first reads: the rest is for its activations, and for other programs."""

LEAST_SHARE = 0.25

CACHE_SHARE = 0.5
"""Of the budget: what is stored between steps may take so much, rows that are being written have the rest at least."""


_clock = count()


def moment() -> int:
    """The present moment, later than all before: when something stored was made or asked for."""
    return next(_clock)


class Cache(Protocol):
    """Stores batches of keys and values, each with the moment, `asked`, when it was stored or asked for."""

    def kv_bytes(self) -> int:
        """Bytes that it holds."""
        ...

    def oldest(self) -> Any | None:
        """The batch that was stored or asked for the longest ago, of those that can be forgotten."""
        ...

    def forget(self, batch: Any) -> None:
        """Store a batch no more."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...


AnyCache = TypeVar("AnyCache", bound=Cache)


class Memory:
    """What all sessions of a model hold together, and may hold.

    Args:
        budget: bytes of keys, values, states and logits; None for `DEFAULT_SHARE` of what the device has free and other
            models on it (a reward's and a language model's, say) may not take, but no less than of `LEAST_SHARE` of it.
        device: where they are.

    Attributes:
        device: where they are.
        most_rows: rows that a batch may have since memory ran out, whatever the budget says; None if it never did.

    Raises:
        OptionError: the budget is not a positive number of bytes.
    """

    def __init__(self, budget: int | None, device: torch.device) -> None:
        if budget is not None and (as_integer(budget) is None or budget < 1):
            raise OptionError(f"memory_budget={budget!r}: give a number of bytes, such as 8 * 2**30, or None.")
        self._given, self._budget, self.device = budget, budget, device
        self._caches: WeakSet[Cache] = WeakSet()
        self.most_rows: int | None = None
        _memories.add(self)

    def __reduce__(self) -> tuple[type[Memory], tuple[int | None, torch.device]]:
        return Memory, (self._given, self.device)  # a copy of the model begins with nothing stored

    @property
    def budget(self) -> int:
        """Bytes in all."""
        if self._budget is None:
            free = free_bytes(self.device)
            others = [other for other in _memories if other is not self and other.device == self.device]
            promised = sum(
                max(0, other._budget - other.stored_bytes()) for other in others if other._budget is not None
            )
            self._budget = int(DEFAULT_SHARE * max(free - promised, LEAST_SHARE * free))
        return self._budget

    def watch(self, cache: AnyCache) -> AnyCache:
        """Count what a cache holds, as long as it lives."""
        self._caches.add(cache)
        return cache

    @property
    def caches(self) -> list[Cache]:
        """Those that live: one for each session."""
        return list(self._caches)

    def stored_bytes(self) -> int:
        """Bytes that caches hold."""
        return sum(cache.kv_bytes() for cache in self._caches)

    def forget_oldest(self) -> None:
        """Forget what was asked for the longest ago, until the caches have no more than their share."""
        while self.stored_bytes() > CACHE_SHARE * self.budget:
            stored = ((cache, batch) for cache in self._caches if (batch := cache.oldest()) is not None)
            found = min(stored, key=lambda pair: pair[1].asked, default=None)
            if found is None:
                return
            found[0].forget(found[1])

    def rows_that_fit(self, row_bytes: int) -> int:
        """Rows that may be written at a time, at least one."""
        fitting = self.most_rows or 1 << 30
        if row_bytes:
            fitting = min(fitting, (self.budget - self.stored_bytes()) // row_bytes)
        return max(1, fitting)

    def run_out(self, rows: int) -> None:
        """Note that memory did not suffice for so many rows, and free what is stored."""
        self.most_rows = max(1, rows // 2)
        for cache in self._caches:
            cache.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


_memories: WeakSet[Memory] = WeakSet()


@dataclass(frozen=True)
class RowSize:
    """What one row of text takes.

    Attributes:
        of_token: bytes of keys and values.
        of_row: bytes of recurrent states, and of logits with what drawing a token makes of them.
        of_read: bytes that a token which is being read takes besides: its logits, where those of all are held.
    """

    of_token: int
    of_row: int
    of_read: int = 0

    @classmethod
    def of(cls, rows: KVRows, logits: Tensor) -> RowSize:
        """As rows that have been read show it."""
        buffers = [buffer.slots for layer in rows.cache.row_layers.values() for buffer in layer.buffers()]
        states = [state for _, _, state in rows.cache.states()]
        # float32 log-probabilities and their exponentials, and a float64 sum, beside the logits themselves
        of_logits = logits.shape[-1] * (logits.element_size() + 16)
        of_states = sum(state.nbytes // max(1, state.shape[0]) for state in states)
        of_token = sum(slots.shape[1] * slots.shape[3] * slots.element_size() for slots in buffers)
        return cls(of_token, of_states + of_logits)

    def bytes(self, tokens: int, read: int = 0) -> int:
        """Of a row with so many tokens in slots of its own, so many of which are being read."""
        return self.of_row + self.of_token * tokens + self.of_read * read


def unique_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes behind tensors, memory that several share counted once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


def free_bytes(device: torch.device) -> int:
    """Bytes that a device has free; where that is not the CPU and does not tell, those of the machine."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = _available_ram()
    try:  # a container may have less than the machine
        limit, used = (int(Path("/sys/fs/cgroup", name).read_text()) for name in ("memory.max", "memory.current"))
        free = min(free, max(0, limit - used))
    except (OSError, ValueError):
        pass
    return free


def _available_ram() -> int:
    try:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):  # Windows
        return 4 << 30


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that an allocation has failed, on a device or on the machine.

    Somebody's own kind of `MemoryError` says something else: a limit of theirs, or ours, which has been dealt with.
    """
    kind = type(error)
    if isinstance(error, torch.OutOfMemoryError) or kind is MemoryError:
        return True
    if isinstance(error, MemoryError):
        return kind.__module__.startswith("numpy.")
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _FAILED_ALLOCATIONS)
