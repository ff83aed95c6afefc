import random

import numpy as np
import pytest
import torch

from pyro_llm.errors import HiddenRandomnessError
from pyro_llm.handlers.randomness import RandomnessWatch


@pytest.mark.parametrize(
    ("draw", "library"),
    [(lambda: torch.rand(()), "torch"), (lambda: np.random.rand(), "numpy"), (random.random, "random")],
)
def test_draws_from_global_generators_are_noticed(draw, library):
    watch = RandomnessWatch()
    watch.begin()
    watch.check("site 'a'")
    draw()
    with pytest.raises(HiddenRandomnessError, match=rf"\({library}\).*between site 'a' and site 'b'"):
        watch.check("site 'b'")


def test_sites_may_draw():
    watch = RandomnessWatch()
    watch.begin()
    watch.end("site 'a'")
    torch.rand(())
    watch.begin("site 'a'")
    watch.check("site 'b'")


def test_own_generators_may_draw():
    watch = RandomnessWatch()
    watch.begin()
    torch.rand((), generator=torch.Generator())
    np.random.default_rng(0).random()
    watch.end("site 'a'")
    assert not watch.watching
