"""Sites that some particles lack: their value is None, and functions are not called for it."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.infer import SMC, ParticleGibbs, Posterior


def optional():
    k = pyro.sample("k", dist.Bernoulli(0.5))
    if k:
        pyro.sample("x", dist.Normal(3.0, 0.1))
        pyro.sample("i", dist.Categorical(torch.ones(3)))
        pyro.deterministic("sign", torch.tensor(-1))
    pyro.factor("f", -k)


def positive(value):
    assert torch.isfinite(value).all() and value is not None
    return bool(value > 0)


@pytest.fixture
def posterior():
    pyro.set_rng_seed(0)
    return SMC(optional, 100, num_runs=2, particles="scalar").run()


def assert_missing_is_none(posterior):
    lacks = 1 - posterior.marginal(of="k")[1.0]
    assert 0.5 < lacks < 0.95
    for site, seen in (("x", True), ("i", None), ("sign", False)):
        marginal = posterior.marginal(positive, of=site)
        assert marginal[None] == pytest.approx(lacks)
        if seen is not None:
            assert marginal[seen] == pytest.approx(1 - lacks)
            assert set(marginal) == {None, seen}
    assert posterior.marginal(of="i")[None] == pytest.approx(lacks)
    assert set(posterior.marginal(of="i")) == {None, 0, 1, 2}
    assert posterior.marginal(of="sign")[-1] == pytest.approx(1 - lacks)  # which is padding elsewhere


def test_of_particles_executed_one_by_one(posterior, tmp_path):
    assert_missing_is_none(posterior)
    assert set(posterior.missing) == {"x", "i", "sign"}
    posterior.save(tmp_path / "run.nc")
    loaded = Posterior.load(tmp_path / "run.nc")
    assert loaded.missing.keys() == posterior.missing.keys()
    assert all(torch.equal(loaded.missing[site], lacks) for site, lacks in posterior.missing.items())
    assert_missing_is_none(loaded)
    assert_missing_is_none(posterior.resample(200))


@pytest.mark.parametrize("keep", ["draw", "population"])
def test_of_iterations_of_a_chain(keep):
    """A site that is met until an event in the population's common past is not met in every sweep."""

    def model():
        go_on = pyro.sample("go_on", dist.Normal(0.0, 1.0))
        if bool((go_on > 0.5).any()):  # in some sweeps
            pyro.sample("x", dist.Normal(5.0, 0.1))

    pyro.set_rng_seed(0)
    posterior = ParticleGibbs(model, 3, 20, num_chains=1, keep=keep).run()
    assert torch.equal(posterior.missing["x"], posterior.samples["x"].isnan())
    assert 0.05 < posterior.marginal(positive, of="x")[None] < 0.95


def test_nothing_is_missing_where_all_particles_have_all_sites(posterior):
    assert SMC(optional, 1, particles="scalar").run().missing == {}
    assert "k" not in posterior.missing
