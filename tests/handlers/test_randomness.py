import random

import numpy as np
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.errors import HiddenRandomnessError
from pyro_llm.handlers.randomness import LIBRARIES, RandomnessWatch, libraries_drawn_from


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


@pytest.mark.parametrize(("draw", "library"), [(np.random.rand, "numpy"), (random.random, "random")])
def test_a_draw_is_noticed_however_seldom_generators_are_read(draw, library):
    watch = RandomnessWatch()
    for site in range(1000):
        watch.begin(f"site {site}")
        if site == 800:
            draw()
        if site < 800:
            watch.end(f"site {site + 1}", may_draw=("torch",))
    with pytest.raises(HiddenRandomnessError, match=rf"\({library}\).*between site (7\d\d|800) and the end"):
        watch.end("the end")


def test_what_may_draw_is_not_taken_for_a_hidden_draw():
    watch = RandomnessWatch()
    for site in range(200):
        watch.begin()
        watch.end(f"site {site}", may_draw=("torch",) if site % 2 == 0 else LIBRARIES)
        torch.rand(())
        if site % 2:
            random.random()
            np.random.rand()
    watch.begin()
    watch.end("the end")


def test_libraries_that_distributions_draw_from():
    class Own(dist.Normal):
        def sample(self, sample_shape=()):
            return torch.tensor(random.random())

    transforms = [torch.distributions.transforms.ExpTransform()]
    known = [dist.Normal(0.0, 1.0), dist.Normal(0.0, torch.ones(2)).to_event(1), dist.Bernoulli(0.5).mask(False)]
    unknown = [Own(0.0, 1.0), Own(0.0, torch.ones(2)).to_event(1), random.random]
    unknown += [dist.TransformedDistribution(Own(0.0, 1.0), transforms)]
    unknown += [dist.MixtureSameFamily(dist.Categorical(torch.ones(2)), Own(torch.zeros(2), 1.0))]
    for fn in known:
        assert libraries_drawn_from(fn, observed=False) == ("torch",)
        assert libraries_drawn_from(fn, observed=True) == ()
    for fn in unknown:
        assert libraries_drawn_from(fn, observed=False) == libraries_drawn_from(fn, observed=True) == LIBRARIES
