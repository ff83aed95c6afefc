import random
from itertools import count
from typing import get_args

import numpy as np
import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK

from pyro_llm.infer import (
    SMC,
    AllParticlesDeadError,
    BatchedBranchError,
    DuplicateSiteError,
    HiddenRandomnessError,
    NonFiniteWeightError,
    OptionError,
    PlateNestingError,
    ReplayError,
)
from pyro_llm.infer.options import ResamplingName
from pyro_llm.ops.resampling import RESAMPLING_SCHEMES

ONE = torch.tensor(1.0)


def run(model, *args, **options):
    pyro.set_rng_seed(0)
    return SMC(model, **{"num_particles": 6, "ess_threshold": 1.0, "progress": False, **options}).run(*args)


@pytest.fixture(autouse=True)
def clean_stack():
    """Whatever is raised, nothing stays behind in Pyro."""
    yield
    assert not _PYRO_STACK and not _DIM_ALLOCATOR._stack


def steps(between=lambda t, x: None, num_steps=3):
    """A program with `between` between each latent value and its observation."""

    def model():
        x = torch.tensor(0.0)
        for t in range(num_steps):
            x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
            between(t, x)
            pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=ONE)

    return model


def test_a_model_is_a_function():
    with pytest.raises(OptionError, match="must be a function"):
        SMC("model", 4)


def test_all_resampling_schemes_can_be_chosen():
    assert get_args(ResamplingName) == tuple(RESAMPLING_SCHEMES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_particles": 0}, "num_particles=0: give an integer of at least 1"),
        ({"num_particles": 8.0}, r"num_particles=8.0: .* did you mean 8\?"),
        ({"num_particles": True}, "num_particles=True"),
        ({"num_runs": -1}, "num_runs=-1"),
        ({"max_plate_nesting": -1}, "max_plate_nesting=-1: give an integer of at least 0"),
        ({"ess_threshold": 1.5}, "ess_threshold=1.5: give a fraction"),
        ({"ess_threshold": float("nan")}, "ess_threshold=nan"),
        ({"ess_threshold": "always"}, "ess_threshold='always'"),
        ({"particles": "vectorised"}, "particles='vectorised': choose 'vectorized' or 'scalar'"),
        ({"resampling": "bootstrap"}, "no resampling scheme 'bootstrap'"),
        ({"resample_when": 0.5}, r"resample_when=0.5: give a function of the log-weights"),
        ({"resample_when": len, "ess_threshold": 0.7}, "either ess_threshold=0.7 or resample_when"),
        ({"island_threshold": 2, "num_runs": 2}, "island_threshold=2: give a fraction of the runs"),
        ({"island_threshold": True, "num_runs": 2}, "island_threshold=True"),
        ({"island_threshold": 0.5}, "a single run has no other"),
    ],
)
def test_options_are_checked_when_the_algorithm_is_made(options, message):
    with pytest.raises(OptionError, match=message):
        SMC(steps(), **{"num_particles": 4, **options})


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_all_particles_dead(particles):
    def impossible(t, x):
        if t == 1:
            pyro.factor("reward", torch.tensor(-torch.inf))

    with pytest.raises(AllParticlesDeadError, match="step 2, site 'reward"):
        run(steps(impossible), particles=particles)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
@pytest.mark.parametrize("factor", [torch.nan, torch.inf])
def test_non_finite_factors(particles, factor):
    def broken(t, x):
        if t == 1:
            pyro.sample("reward", dist.Unit(torch.tensor(factor), validate_args=False), obs=torch.empty(0))

    with pytest.raises(NonFiniteWeightError, match="step 2, site 'reward"):
        run(steps(broken), particles=particles)


@pytest.mark.parametrize(
    "branch",
    [
        lambda x: 1 if x > 0 else 2,
        lambda x: x.item(),
        lambda x: float(x),
        lambda x: list(range(x.long())),
        lambda x: f"{x:.2f}",
        lambda x: torch.zeros(x.long()),
        lambda x: torch.zeros(2, x.long()),
        lambda x: torch.ones((x.long(),)),
        lambda x: torch.eye(x.long()),
        lambda x: torch.full((2,), x),
        lambda x: pyro.plate("items", x.long()).__enter__(),
    ],
    ids=["if", "item", "float", "range", "format", "size", "sizes", "sizes in a tuple", "int", "number", "plate"],
)
def test_branches_on_batched_values(branch):
    with pytest.raises(BatchedBranchError, match=r'particles="scalar".*torch\.where') as caught:
        run(steps(lambda t, x: branch(x)))
    assert caught.value.__cause__ is not None


def test_branches_are_what_scalar_particles_are_for():
    assert run(steps(lambda t, x: 1 if x > 0 else 2), particles="scalar").num_particles == 6


def test_errors_of_the_program_itself_pass():
    def fails(t, x):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        run(steps(fails))
    with pytest.raises(KeyboardInterrupt):
        run(steps(lambda t, x: (_ for _ in ()).throw(KeyboardInterrupt)), progress=True)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_a_site_name_twice(particles):
    with pytest.raises(DuplicateSiteError, match="'noise' occurs twice"):
        run(steps(lambda t, x: pyro.sample("noise", dist.Normal(0.0, 1.0))), particles=particles)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
@pytest.mark.parametrize(
    ("draw", "library"),
    [
        (lambda: torch.randn(()), "torch"),
        (lambda: np.random.rand(), "numpy"),
        (random.random, "random"),
        (lambda: dist.Normal(0.0, 1.0).sample(), "torch"),
    ],
)
def test_randomness_outside_sites(particles, draw, library):
    with pytest.raises(HiddenRandomnessError, match=rf"\({library}\).*between site 'x_0' and site 'y_0'"):
        run(steps(lambda t, x: draw()), particles=particles)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_a_hidden_site(particles):
    def hide(t, x):
        with poutine.block():
            pyro.sample(f"hidden_{t}", dist.Normal(0.0, 1.0))

    with pytest.raises(HiddenRandomnessError, match=r"poutine\.block"):
        run(steps(hide), particles=particles)


def test_randomness_after_the_last_replayed_site():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=ONE)
        noise = torch.randn(6)
        pyro.sample("z", dist.Normal(noise, 1.0))

    with pytest.raises(HiddenRandomnessError, match="between site 'y' and site 'z'"):
        run(model)


@pytest.mark.parametrize("place", ["first", "between", "last"])
@pytest.mark.parametrize("hide", [False, True])
def test_raw_randomness_where_nothing_is_replayed(place, hide):
    """It would be shared by all particles of all runs, so that no error bar could see it."""

    def draw(here):
        if here == place and hide:
            with poutine.block():
                return pyro.sample("hidden", dist.Normal(0.0, 1.0))
        return torch.randn(()) if here == place else 0.0

    def model():
        x = pyro.sample("x", dist.Normal(draw("first"), 1.0))
        y = pyro.sample("y", dist.Normal(x + draw("between"), 1.0))
        return y + draw("last")

    with pytest.raises(HiddenRandomnessError, match="outside any visible sample site"):
        run(model, ess_threshold=0)


def test_parameters_may_be_initialised_at_random():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        loc = pyro.param("loc", lambda: torch.randn(()))
        pyro.sample("y", dist.Normal(x + loc, 1.0), obs=ONE)

    run(model)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_names_that_change_on_replay(particles):
    counter = count()
    with pytest.raises(ReplayError, match="global counter"):
        run(steps(lambda t, x: pyro.sample(f"n_{next(counter)}", dist.Normal(0.0, 1.0))), particles=particles)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_parameters_that_change_on_replay(particles):
    counter = count()

    def drift(t, x):
        pyro.sample(f"z_{t}", dist.Normal(float(next(counter)), 1.0))

    with pytest.raises(ReplayError, match="parameter 'loc' of site 'z_0'"):
        run(steps(drift), particles=particles)


def test_an_iterator_that_is_used_up():
    def model(observations):
        x = torch.tensor(0.0)
        for t, y in enumerate(observations):
            x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=y)
        pyro.sample("last", dist.Normal(x, 1.0))

    run(model, [ONE] * 3)
    with pytest.raises(ReplayError, match="argument of the program is a list_iterator"):
        run(model, iter([ONE] * 3))
    observations = iter(torch.arange(9.0))
    with pytest.raises(ReplayError, match="'y_0' had another observed value"):
        run(lambda: model(observations))
    lengths = iter([3, 3, 0])
    with pytest.raises(ReplayError, match="an iterator that an earlier execution used up"):
        run(lambda: steps(num_steps=next(lengths))())


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_pyro_factor_of_nan(particles):
    def broken(t, x):
        pyro.factor(f"reward_{t}", x.log() if t else x)

    with pytest.raises(NonFiniteWeightError, match=r"factor\('reward_1', ...\)` is NaN, after site 'x_1'"):
        run(steps(broken), num_particles=50, particles=particles)
    with pytest.raises(NonFiniteWeightError, match=r"factor\('bad', ...\)` is NaN, its first site"):
        run(lambda: pyro.factor("bad", torch.tensor(torch.nan)), particles=particles)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_values_changed_in_place(particles):
    with pytest.raises(ReplayError, match="'x_0' in place"):
        run(steps(lambda t, x: x.add_(1.0)), particles=particles)


def test_a_value_changed_in_place_at_the_very_end():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        x += 1

    with pytest.raises(ReplayError, match="'x' in place"):
        run(model)


def test_a_plate_left_of_the_particles():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(x, 1.0), obs=torch.ones(3, 1))

    with pytest.raises(PlateNestingError, match=r"'data' at dim=-2.*max_plate_nesting to at least.*here 1"):
        run(model)


def test_a_plate_on_the_dimension_of_the_particles():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3, dim=-1):
            pyro.sample("y", dist.Normal(x, 1.0), obs=torch.ones(3))

    with pytest.raises(PlateNestingError, match=r"collide at dim=-1 .*max_plate_nesting"):
        run(model)


def test_a_batch_without_a_plate():
    def model():
        x = pyro.sample("x", dist.Normal(torch.zeros(3), 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.ones(3))

    with pytest.raises(PlateNestingError, match=r"takes the place of the particles.*to_event"):
        run(model)


def test_an_observation_with_dimensions_of_its_own():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.ones(3, 1))

    with pytest.raises(PlateNestingError, match=r"'y' has a log-probability of shape \(3, 6\)"):
        run(model)
