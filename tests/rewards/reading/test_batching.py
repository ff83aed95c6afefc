import random

import pytest

from pyro_llm.errors import OptionError
from pyro_llm.rewards.reading.batching import BatchLimits


def test_every_text_once_within_both_limits():
    rng = random.Random(0)
    limits = BatchLimits(rows=5, tokens=40)
    for _ in range(50):
        lengths = [rng.choice([1, 3, 8, 19, 30, 55]) for _ in range(rng.randint(1, 30))]
        batches = list(limits.batches(lengths))
        assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
        for batch in batches:
            width = max(lengths[index] for index in batch)
            assert len(batch) <= 5
            assert len(batch) * width <= 40 or len(batch) == 1
        order = [lengths[index] for batch in batches for index in batch]
        assert order == sorted(order)


def test_nothing_makes_no_batch():
    assert list(BatchLimits(2, 2).batches([])) == []


@pytest.mark.parametrize(("options", "name"), [((0, 5), "batch_size"), ((5, 0), "batch_tokens")])
def test_limits_are_positive(options, name):
    with pytest.raises(OptionError, match=name):
        BatchLimits(*options)
