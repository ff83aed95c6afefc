import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch
from pyro.poutine.runtime import _DIM_ALLOCATOR, _PYRO_STACK

from pyro_llm.infer import SMC, Posterior, StepReport
from pyro_llm.run_scope import current_run_scope

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


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_what_a_posterior_holds(particles):
    posterior = run(random_walk, OBSERVATIONS, particles=particles, ess_threshold=1.0)
    assert isinstance(posterior, Posterior)
    assert (posterior.num_runs, posterior.num_particles) == (3, 5)
    assert {name: tuple(value.shape) for name, value in posterior.samples.items()} == {
        f"x_{t}": (3, 5) for t in range(4)
    }
    assert posterior.returns["last"].shape == (3, 5)
    assert torch.equal(posterior.returns["last"], posterior.samples["x_3"])
    assert posterior.stats.names == [f"y_{t}" for t in range(4)]
    assert posterior.stats.resampled.tolist() == [[True, True, True, False]] * 3
    assert {name: float(value) for name, value in posterior.observed.items()} == {
        f"y_{t}": float(y) for t, y in enumerate(OBSERVATIONS)
    }
    torch.testing.assert_close(posterior.log_weights.exp().sum(-1), torch.ones(3, dtype=torch.float64))
    increments = torch.from_numpy(posterior.stats.log_evidence_increment)
    torch.testing.assert_close(increments.sum(-1), posterior.log_evidence)
    assert posterior.cost.seconds > 0
    assert posterior.settings["algorithm"] == "SMC" and posterior.settings["initial_seed"] == 0
    assert posterior.settings["particles"] == particles and "pyro_llm" in posterior.settings["versions"]


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_lineages_are_whole(particles):
    """Prior, likelihood and values of a particle belong to one history, whatever was resampled."""
    posterior = run(random_walk, OBSERVATIONS, particles=particles, ess_threshold=0.8)
    assert posterior.stats.resampled.any()
    path = [torch.zeros(3, 5), *(posterior.samples[f"x_{t}"] for t in range(4))]
    log_prior = sum(dist.Normal(path[t], 1.0).log_prob(path[t + 1]) for t in range(4))
    log_likelihood = sum(dist.Normal(path[t + 1], 0.5).log_prob(OBSERVATIONS[t]) for t in range(4))
    torch.testing.assert_close(posterior.log_prior, log_prior.double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(posterior.log_likelihood, log_likelihood.double(), rtol=1e-5, atol=1e-5)


def test_recorded_ancestors_are_those_of_the_samples():
    posterior = run(random_walk, OBSERVATIONS, ess_threshold=1.0)
    factors = torch.from_numpy(posterior.stats.log_factor)
    lineages = torch.from_numpy(posterior.stats.lineages)
    along = factors.gather(-1, lineages)
    torch.testing.assert_close(along.sum(1), posterior.log_likelihood)
    for t in range(4):
        expected = dist.Normal(posterior.samples[f"x_{t}"], 0.5).log_prob(OBSERVATIONS[t])
        torch.testing.assert_close(along[:, t], expected.double(), rtol=1e-5, atol=1e-5)


def test_seeds():
    first, again, other = (run(random_walk, OBSERVATIONS, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.samples["x_3"], again.samples["x_3"])
    assert torch.equal(first.log_evidence, again.log_evidence)
    assert not torch.equal(first.log_evidence, other.log_evidence)


def test_weights_are_not_used_after_the_last_latent_value():
    """Factors in a row are folded together; the last ones stay in the weights even at threshold 1."""

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("a", dist.Normal(x, 0.1), obs=torch.tensor(1.0))
        pyro.sample("b", dist.Normal(x, 0.1), obs=torch.tensor(1.0))

    posterior = run(model, ess_threshold=1.0)
    assert not posterior.stats.resampled.any()
    expected = (2 * dist.Normal(posterior.samples["x"], 0.1).log_prob(torch.tensor(1.0))).double().log_softmax(-1)
    torch.testing.assert_close(posterior.log_weights, expected, rtol=1e-4, atol=1e-4)


def test_two_factors_after_one_value_are_resampled_once():
    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("a", dist.Normal(x, 0.1), obs=torch.tensor(1.0))
        pyro.sample("b", dist.Normal(x, 0.1), obs=torch.tensor(1.0))
        pyro.sample("z", dist.Normal(x, 1.0))

    assert run(model, ess_threshold=1.0).stats.resampled.tolist() == [[False, True]] * 3


def test_no_observations_and_no_sites():
    posterior = run(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)))
    assert posterior.stats.num_steps == 0 and posterior.log_evidence.tolist() == [0.0] * 3
    torch.testing.assert_close(posterior.ess(), torch.full((3,), 5.0, dtype=torch.float64))
    assert run(lambda: None).returns is None


def test_one_particle():
    posterior = run(random_walk, OBSERVATIONS, num_particles=1, num_runs=1, ess_threshold=1.0)
    torch.testing.assert_close(posterior.log_evidence, posterior.log_likelihood[:, 0])


def test_callback_and_run_scope():
    reports = []

    def model():
        assert current_run_scope() is not None
        random_walk(OBSERVATIONS)

    posterior = run(model, progress=reports.append)
    assert current_run_scope() is None
    assert all(isinstance(report, StepReport) for report in reports)
    assert [report.name for report in reports] == posterior.stats.names
    torch.testing.assert_close(reports[-1].log_evidence, posterior.log_evidence)


def test_status_line(capsys):
    run(random_walk, OBSERVATIONS, progress=True)
    captured = capsys.readouterr()
    assert "SMC, 5 particles: step 4 (y_3), ESS" in captured.err and not captured.out
    run(random_walk, OBSERVATIONS, progress=False)
    assert not capsys.readouterr().err


def test_inference_inside_other_handlers_is_hidden_from_them():
    with poutine.trace() as trace:
        run(random_walk, OBSERVATIONS)
    assert not trace.trace.nodes


def test_no_gradients_are_recorded():
    weight = torch.tensor(1.0, requires_grad=True)

    def model():
        x = pyro.sample("x", dist.Normal(weight, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.0))
        return x * weight

    posterior = run(model)
    assert not posterior.returns.requires_grad and not posterior.log_evidence.requires_grad


def test_repr():
    assert repr(SMC(random_walk, 8, ess_threshold=0.7)) == (
        "SMC(random_walk, num_particles=8, ess_threshold=0.7, num_runs=1, particles='vectorized', "
        "max_plate_nesting=0, resampling='systematic')"
    )
