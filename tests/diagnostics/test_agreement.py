import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics.agreement import convergence, r_hat_threshold, scalar_functionals
from pyro_llm.infer import ParticleGibbs


def test_scalar_functionals(posterior, numeric_posterior):
    columns = scalar_functionals(posterior, {"right": lambda text: "95" in text})
    assert list(columns) == ["length", "log_reward", "log_probability", "right"]
    assert columns["right"].tolist() == [[float("95" in text) for text in row] for row in posterior.texts]
    np.testing.assert_array_equal(columns["log_reward"], posterior.log_likelihood)
    assert list(scalar_functionals(numeric_posterior)) == ["log_likelihood", "a/b", "x_dim_0", "a.b", "a_b"]


def test_runs_are_compared_from_four_on(make_posterior):
    assert convergence(make_posterior(num_runs=3)) == {}
    found = convergence(make_posterior(num_runs=4, num_particles=64))
    assert set(found) == {"length", "log_reward", "log_probability"}
    assert all(value.r_hat < 1.2 for value in found.values())


def walk(num_chains, shift=0.0):
    """A posterior whose chains are independent draws, the last of them somewhere else."""
    pyro.set_rng_seed(0)
    model = lambda: pyro.sample("x", dist.Normal(0.0, 1.0))  # noqa: E731
    posterior = ParticleGibbs(model, 2, num_iterations=500, num_chains=num_chains).run()
    posterior.samples["x"] = torch.randn(num_chains, 500, generator=torch.Generator().manual_seed(0))
    posterior.samples["x"][-1] += shift
    return posterior


def test_chains_of_independent_draws():
    """R-hat is 1, and the ESS their number, to its error."""
    found = convergence(walk(4))["x"]
    assert found.r_hat == pytest.approx(1, abs=0.01)
    assert found.ess == pytest.approx(2000, rel=0.15)


def test_a_chain_that_is_elsewhere():
    r"""Of normal draws with means m_j and variance 1, $\hat R^2 = 1 + Var(m)$: here of 0, 0, 0 and 1, so 1/4."""
    found = convergence(walk(4, shift=1.0))["x"]
    assert found.r_hat == pytest.approx(np.sqrt(1.25), abs=0.06)  # ranks bound the shift a little
    assert found.ess < 40


def test_standing_still():
    posterior = walk(4)
    posterior.samples["x"] = torch.arange(4.0)[:, None].expand(4, 500)
    assert convergence(posterior)["x"].r_hat == np.inf
    posterior.samples["x"] = torch.ones(4, 500)
    assert np.isnan(convergence(posterior)["x"].r_hat)


@pytest.mark.parametrize("num_draws", [4, 50])
def test_the_threshold_is_exceeded_once_in_a_thousand(num_draws):
    """Over 4,000 sets of five chains of normal draws: at most 11 exceedances, of 4 expected, but once in 1,000."""
    draws = np.random.default_rng(0).standard_normal((4000, 5, num_draws))
    between, within = num_draws * draws.mean(2).var(1, ddof=1), draws.var(2, ddof=1).mean(1)
    r_hat = np.sqrt((num_draws - 1) / num_draws + between / within / num_draws)
    at_most = r_hat_threshold(5, num_draws, at_least=1.0)
    assert (r_hat > at_most).sum() <= 11
    assert (r_hat > 1 + 0.5 * (at_most - 1)).sum() > 11  # and it is not far too high
    assert r_hat_threshold(5, num_draws, num_functionals=3) > at_most
