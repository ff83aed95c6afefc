"""What a program may contain: plates, masks, scales, and Pyro's own handlers."""

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK

from pyro_llm.infer import SMC

OBSERVATIONS = torch.tensor([0.3, 1.4, -0.2, 2.0])


def random_walk(observations):
    x = torch.tensor(0.0)
    for t, y in enumerate(observations):
        x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=y)
    return {"last": x, "observations": observations}


def run(model, *args, seed=0, **options):
    pyro.set_rng_seed(seed)
    return SMC(model, **{"num_particles": 5, "num_runs": 3, "progress": False, **options}).run(*args)


@pytest.fixture(autouse=True)
def clean_stack():
    yield
    assert not _PYRO_STACK and not _DIM_ALLOCATOR._stack


def test_nested_plates():
    data = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    def model(data):
        mean = pyro.sample("mean", dist.Normal(0.0, 1.0))
        with pyro.plate("rows", 4, dim=-2):
            row = pyro.sample("row", dist.Normal(mean, 1.0))
            with pyro.plate("columns", 3, dim=-1):
                pyro.sample("y", dist.Normal(row, 1.0), obs=data)
        pyro.sample("later", dist.Normal(mean.unsqueeze(-1) + torch.zeros(2), 1.0).to_event(1))
        return row

    posterior = run(model, data, max_plate_nesting=2, ess_threshold=1.0)
    assert {name: tuple(value.shape) for name, value in posterior.samples.items()} == {
        "mean": (3, 5),
        "row": (3, 5, 4, 1),
        "later": (3, 5, 2),
    }
    row = posterior.samples["row"]
    assert torch.equal(posterior.returns, row)
    expected = dist.Normal(row, 1.0).log_prob(data).sum((-1, -2)).double()
    torch.testing.assert_close(posterior.log_likelihood, expected, rtol=1e-5, atol=1e-5)


def test_subsamples_are_replayed_and_scaled_and_never_gathered():
    data = torch.arange(10.0)
    seen = []

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 10, subsample_size=4) as index:
            seen.append(index)
            pyro.sample("y", dist.Normal(x, 3.0), obs=data[index])
        pyro.sample("z", dist.Normal(x, 1.0))

    posterior = run(model, max_plate_nesting=1, ess_threshold=1.0)
    assert len(seen) == 2 and torch.equal(seen[0], seen[1])
    assert "data" not in posterior.samples
    x = posterior.samples["x"]
    expected = 2.5 * dist.Normal(x.unsqueeze(-1), 3.0).log_prob(data[seen[0]]).sum(-1).double()
    torch.testing.assert_close(posterior.log_likelihood, expected, rtol=1e-5, atol=1e-5)


def test_masks_and_scales():
    def model():
        x = pyro.sample("x", dist.Bernoulli(0.5))
        with poutine.mask(mask=x == 1), poutine.scale(scale=3.0):
            pyro.sample("y", dist.Bernoulli(0.25), obs=torch.tensor(1.0))
        with poutine.mask(mask=False):
            pyro.sample("never", dist.Bernoulli(0.25), obs=torch.tensor(1.0))

    posterior = run(model, num_particles=40)
    expected = posterior.samples["x"].double() * 3 * torch.tensor(0.25).log().double()
    torch.testing.assert_close(posterior.log_likelihood, expected, rtol=1e-5, atol=1e-6)


def test_a_factor_common_to_all_particles_counts_once_for_each():
    def model():
        pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.factor("common", torch.tensor(-1.5))
        pyro.sample("z", dist.Normal(0.0, 1.0))

    posterior = run(model, ess_threshold=1.0)
    torch.testing.assert_close(posterior.log_evidence, torch.full((3,), -1.5, dtype=torch.float64))
    assert posterior.observed == {}


def test_condition_do_block_and_deterministic():
    def model():
        a = pyro.sample("a", dist.Normal(0.0, 1.0))
        b = pyro.sample("b", dist.Normal(a, 1.0))
        c = pyro.deterministic("c", a + b)
        pyro.sample("y", dist.Normal(c, 1.0), obs=torch.tensor(0.5))
        pyro.deterministic("shared", torch.tensor(2.0))
        return pyro.sample("d", dist.Normal(c, 1.0))

    conditioned = run(poutine.condition(model, {"b": torch.tensor(0.3)}), ess_threshold=1.0)
    assert set(conditioned.samples) == {"a", "c", "d"}
    assert conditioned.stats.names == ["b", "y"]
    torch.testing.assert_close(conditioned.samples["c"], conditioned.samples["a"] + 0.3)

    intervened = run(poutine.do(model, {"b": torch.tensor(0.3)}), ess_threshold=1.0)
    assert intervened.stats.names == ["y"]
    torch.testing.assert_close(intervened.samples["c"], intervened.samples["a"] + 0.3)


def test_a_hidden_observation_is_no_factor():
    """As everywhere in Pyro: what `poutine.block` hides takes no part in inference."""

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        with poutine.block():
            pyro.sample("hidden", dist.Normal(x, 1.0), obs=torch.tensor(0.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.0))

    assert run(model).stats.names == ["y"]


def test_the_program_cannot_swallow_a_restart():
    def model(observations):
        try:
            return random_walk(observations)
        except Exception:
            return None

    assert run(model, OBSERVATIONS, ess_threshold=1.0).returns is not None


def test_params_markov_and_sequential_plates():
    pyro.clear_param_store()

    def model():
        scale = pyro.param("scale", lambda: torch.rand(()) + 0.5)
        x = pyro.sample("x", dist.Normal(0.0, scale))
        for t in pyro.markov(range(3)):
            x = pyro.sample(f"m_{t}", dist.Normal(x, 1.0))
            pyro.sample(f"y_{t}", dist.Normal(x, 1.0), obs=torch.tensor(1.0))
        for i in pyro.plate("sequential", 2):
            z = pyro.sample(f"z_{i}", dist.Normal(x, 1.0))
            pyro.sample(f"w_{i}", dist.Normal(z, 1.0), obs=torch.tensor(1.0))

    posterior = run(model, ess_threshold=1.0)
    assert posterior.stats.resampled.sum(-1).tolist() == [4] * 3
    pyro.clear_param_store()


def test_discrete_and_multivariate_sites_and_unscorable_ones():
    class OnlySampled(dist.Normal):
        def log_prob(self, value):
            raise NotImplementedError

        def expand(self, batch_shape, _instance=None):
            return OnlySampled(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def model(unscorable):
        k = pyro.sample("k", dist.Categorical(torch.tensor([0.2, 0.8])))
        v = pyro.sample("v", dist.MultivariateNormal(torch.zeros(2), torch.eye(2)))
        pyro.sample("y", dist.Normal(v.sum(-1) + k, 1.0), obs=torch.tensor(0.0))
        pyro.sample("u", OnlySampled(torch.tensor(0.0), 1.0) if unscorable else dist.Normal(0.0, 1.0))

    posterior = run(model, False, ess_threshold=1.0)
    assert posterior.samples["k"].dtype == torch.int64 and posterior.samples["v"].shape == (3, 5, 2)
    assert torch.isfinite(posterior.log_prior).all()
    assert torch.isnan(run(model, True, ess_threshold=1.0).log_prior).all()
