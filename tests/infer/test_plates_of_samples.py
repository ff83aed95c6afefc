"""A latent site's values have the shape that the program gives them, without dimensions of plates it is not in."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import convergence
from pyro_llm.infer import SMC, BestOfN, ParallelTempering, ParticleGibbs

SHAPES = {
    "mu": [], "twice": [], "pair": [2], "x": [3], "square": [3], "y": [2, 1], "z": [2, 3], "w": [2, 3, 4], "one": [1],
    "late": [],
}  # fmt: skip


def model():
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    pyro.deterministic("twice", 2 * mu)
    pyro.sample("pair", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    columns, rows = pyro.plate("columns", 3, dim=-1), pyro.plate("rows", 2, dim=-2)
    with columns:
        x = pyro.sample("x", dist.Normal(mu, 1.0))
        pyro.deterministic("square", x * x)
    with rows:
        y = pyro.sample("y", dist.Normal(mu, 1.0))
    with rows, columns:
        pyro.sample("z", dist.Normal(x + y, 1.0))
        pyro.sample("w", dist.Normal(torch.zeros(4), 1.0).to_event(1))
    with pyro.plate("single", 1):
        pyro.sample("one", dist.Normal(mu, 1.0))
    pyro.sample("data", dist.Normal(mu, 1.0), obs=torch.tensor(1.0))
    pyro.sample("late", dist.Normal(mu, 1.0))  # after resampling


@pytest.mark.parametrize(
    "algorithm",
    [
        SMC(model, 5, num_runs=3, max_plate_nesting=2, ess_threshold=1.0),
        SMC(model, 5, num_runs=3, max_plate_nesting=3, ess_threshold=1.0),
        SMC(model, 5, num_runs=3, particles="scalar", ess_threshold=1.0),
        BestOfN(model, 5, num_runs=3, max_plate_nesting=2),
        ParticleGibbs(model, 5, 5, num_chains=3, max_plate_nesting=2, ancestor_sampling=True),
        ParticleGibbs(model, 5, 1, num_chains=3, max_plate_nesting=2, keep="population"),
        ParallelTempering(model, 5, 5, num_chains=3, max_plate_nesting=2, num_rungs=2),
    ],
    ids=["nested", "nested-deeper", "scalar", "search", "gibbs", "population", "tempering"],
)
def test_shapes_are_those_of_the_program(algorithm):
    samples = algorithm.run().samples
    assert {name: list(value.shape) for name, value in samples.items()} == {
        name: [3, 5, *shape] for name, shape in SHAPES.items()
    }
    assert torch.equal(samples["twice"], 2 * samples["mu"])
    assert torch.equal(samples["square"], samples["x"] ** 2)


def test_a_site_outside_all_plates_is_a_number():
    data = torch.tensor([1.0, 2.0, 3.0, 2.0])

    def program():
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("data", 4):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=data)

    for options in ({"max_plate_nesting": 1}, {"particles": "scalar"}):
        pyro.set_rng_seed(0)
        posterior = SMC(program, 20, num_runs=4, **options).run()
        assert posterior.samples["mu"].shape == (4, 20)
        assert all(isinstance(value, float) for value in posterior.marginal(of="mu"))
        assert posterior.to_datatree()["posterior"]["mu"].dims == ("chain", "draw")
        assert "mu" in convergence(posterior)
        assert "R-hat of mu over runs" in posterior.diagnose().figures
