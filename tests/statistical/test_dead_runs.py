"""Runs that die have an evidence of 0, and with them the mean over runs is unbiased."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.errors import DeadRunWarning
from pyro_llm.infer import SMC

RUNS = 2_000


def two_hard_constraints():
    """Z = P(first) P(second | first) = 0.5 * 0.6 by enumeration."""
    first = pyro.sample("first", dist.Bernoulli(0.5))
    pyro.factor("is_one", torch.where(first == 1, 0.0, -torch.inf))
    second = pyro.sample("second", dist.Bernoulli(0.2 + 0.4 * first))
    pyro.factor("is_one_too", torch.where(second == 1, 0.0, -torch.inf))
    return second


@pytest.mark.parametrize("num_particles", [1, 2, 5])
@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1])
def test_evidence_is_unbiased(num_particles, ess_threshold, assert_mean):
    smc = SMC(two_hard_constraints, num_particles, ess_threshold=ess_threshold, num_runs=RUNS, progress=False)
    with pytest.warns(DeadRunWarning):
        posterior = smc.run()
    assert posterior.log_evidence.isneginf().any()
    assert_mean(posterior.log_evidence.exp(), 0.3)
    assert posterior.marginal(of="second") == {1.0: pytest.approx(1.0)}
    assert (posterior.ess() == 0).equal(posterior.log_evidence.isneginf())
