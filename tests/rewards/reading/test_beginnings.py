"""The longest shared beginning against a search of every stored row, and what is forgotten first."""

import random

import pytest
import torch

from pyro_llm.lm.kv.layers import LayerKind, RowCache
from pyro_llm.lm.kv.rows import KVRows, take_rows
from pyro_llm.lm.memory import Memory
from pyro_llm.rewards.reading.beginnings import Beginnings, ReadRows, as_key, common_length, pieces

SLOT_BYTES = 2 * 4 * 3  # keys and values of one head, three float32 numbers


def stored(*texts):
    """A batch of rows of tokens, with keys and values of their own."""
    width = max(map(len, texts))
    cache = RowCache([LayerKind(attends=True)])
    cache.update(torch.randn(len(texts), 1, width, 3), torch.randn(len(texts), 1, width, 3), layer_idx=0)
    lengths = torch.tensor([len(text) for text in texts])
    return ReadRows(KVRows(cache, torch.zeros_like(lengths), lengths), [as_key(text) for text in texts])


def test_the_longest_shared_beginning_is_found():
    rng, beginnings, known = random.Random(0), Beginnings(), []
    for _ in range(300):
        row = [rng.choice([0, 1, 300, 70_000]) for _ in range(rng.randint(1, 9))]
        found = beginnings.longest(row)
        longest = max((common_length(as_key(row), as_key(other)) for other in known), default=0)
        assert (found.length if found else 0) == min(longest, len(row) - 1)
        if found:
            assert common_length(found.batch.keys[found.number], as_key(row)) >= found.length
        beginnings.add(stored(row))
        known.append(row)


def test_common_length():
    assert common_length(as_key([1, 2, 3]), as_key([1, 2, 4, 5])) == 2
    assert common_length(as_key([1, 2]), as_key([1, 2, 4])) == 2
    assert common_length(as_key([]), as_key([1])) == 0
    assert common_length(as_key([1]), as_key([256])) == 0
    assert as_key([255]) < as_key([256]) < as_key([256, 0]) < as_key([70_000])


def test_the_least_recently_used_batch_is_forgotten_first():
    memory = Memory(4 * 5 * SLOT_BYTES, torch.device("cpu"))  # half of it for what is stored
    beginnings = memory.watch(Beginnings())
    for first in (1, 2):
        beginnings.add(stored([first] * 5))
    assert beginnings.longest([1, 1, 7]).length == 2
    beginnings.add(stored([3] * 5))
    memory.forget_oldest()
    assert beginnings.longest([2, 2, 7]) is None
    assert beginnings.longest([1, 1, 7]).length == beginnings.longest([3, 3, 7]).length == 2


@pytest.mark.parametrize("budget", [1, 400, 2_000])
def test_no_more_is_kept_than_the_bound(budget):
    rng, memory, kept = random.Random(1), Memory(budget, torch.device("cpu")), []
    beginnings = memory.watch(Beginnings())
    for _ in range(20):
        texts = [[rng.randrange(4) for _ in range(rng.randint(1, 6))] for _ in range(rng.randint(1, 3))]
        beginnings.add(stored(*dict.fromkeys(map(tuple, texts))))
        memory.forget_oldest()
        held = {piece: size for batch in beginnings._batches for piece, size in pieces(batch.rows).items()}
        assert beginnings.kv_bytes() == sum(held.values()) <= budget / 2
        assert set(beginnings._stored) <= {key for batch in beginnings._batches for key in batch.keys}
        assert beginnings._sorted == sorted(beginnings._stored)
        kept.append(len(beginnings._batches))
    assert max(kept) == 0 if budget == 1 else max(kept) > 1
    memory.run_out(3)
    assert beginnings.kv_bytes() == 0 and beginnings._sorted == [] and not beginnings._holders


def test_memory_that_rows_share_counts_once():
    rows = stored([1, 2], [3, 4]).rows
    again = take_rows([(rows, [0, 1])], [0, 1], [2, 2], room=0)
    assert again.cache.row_layers[0].keys.data_ptr() == rows.cache.row_layers[0].keys.data_ptr()
    beginnings = Beginnings()
    for batch in (rows, again):
        beginnings.add(ReadRows(batch, [as_key([1, 2]), as_key([3, 4])]))
        assert beginnings.kv_bytes() == 2 * 2 * SLOT_BYTES
