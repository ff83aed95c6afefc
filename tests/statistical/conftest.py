"""What the exactness tests share.

The null of each test is that the code is right; a bound of 4 standard errors on an average of thousands of runs is then
broken with probability 6e-5. Seeds are fixed, so a test that passes once passes always, until the code changes.
"""

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def seed():
    pyro.set_rng_seed(20250202)


@pytest.fixture
def assert_mean():
    """Asserts that i.i.d. replicates (leftmost dimension) have a given mean, within 4 standard errors."""

    def check(replicates, expected):
        replicates = torch.as_tensor(replicates).double()
        error = replicates.std(0) / replicates.shape[0] ** 0.5
        deviation = (replicates.mean(0) - torch.as_tensor(expected)).abs()
        # A quantity that does not vary must be exact up to rounding.
        bound = 4 * error + 1e-6 * torch.as_tensor(expected).abs() + 1e-12
        assert (deviation <= bound).all(), f"off by {(deviation / error).max():.1f} standard errors"

    return check


@pytest.fixture
def assert_posterior_mean(assert_mean):
    """Asserts that runs estimate a posterior expectation rightly, when pooled by their evidence.

    The null is that each run's Z-hat times its weighted average has the mean Z E[f | observations], which holds for
    any number of particles. So the difference of Z-hat f-hat and Z-hat E[f] has mean zero: 4 standard errors.
    """

    def check(posterior, values, expected):
        weights = posterior.log_weights.exp()
        values = torch.as_tensor(values).double()
        weights = weights.reshape(weights.shape + (1,) * (values.dim() - 2))
        estimates = (weights * values).sum(1)
        evidence = (posterior.log_evidence - posterior.log_evidence.max()).exp()
        evidence = evidence.reshape(evidence.shape + (1,) * (estimates.dim() - 1))
        assert_mean(evidence * (estimates - torch.as_tensor(expected)), torch.zeros(estimates.shape[1:]))

    return check
