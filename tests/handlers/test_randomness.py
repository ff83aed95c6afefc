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


def test_a_normal_deviate_that_a_generator_kept_back_is_noticed():
    for draw in (np.random.randn, lambda: random.gauss(0.0, 1.0)):
        draw()  # makes two, and keeps one
        watch = RandomnessWatch()
        watch.begin()
        draw()
        with pytest.raises(HiddenRandomnessError):
            watch.end("site 'a'")


def test_another_generator_of_numpy_is_watched():
    default = np.random.mtrand.get_bit_generator()
    np.random.mtrand.set_bit_generator(np.random.PCG64(0))
    try:
        watch = RandomnessWatch()
        watch.begin()
        watch.check("site 'a'")
        np.random.rand()
        with pytest.raises(HiddenRandomnessError, match="numpy"):
            watch.check("site 'b'")
    finally:
        np.random.mtrand.set_bit_generator(default)
