"""The error bars over runs, held against the truth of an exact toy."""

import math

import torch

from pyro_llm.infer import Posterior
from pyro_llm.infer.marginal import pooled_marginal
from pyro_llm.infer.stats import StepStats
from pyro_llm.run_scope import Cost

REPETITIONS, RUNS, PARTICLES = 1000, 32, 8
PRIOR, LIKELIHOOD = torch.tensor([0.6, 0.3, 0.1]).double(), torch.tensor([0.1, 0.5, 0.9]).double()
EVIDENCE = float((PRIOR * LIKELIHOOD).sum())
POSTERIOR = PRIOR * LIKELIHOOD / EVIDENCE


def importance_sampling():
    """Independent experiments of importance sampling on three values: values and log-weights `[experiment, R, N]`."""
    torch.manual_seed(0)
    values = torch.multinomial(PRIOR, REPETITIONS * RUNS * PARTICLES, replacement=True)
    values = values.reshape(REPETITIONS, RUNS, PARTICLES)
    log_weights = LIKELIHOOD.log()[values]
    log_evidence = log_weights.logsumexp(-1) - math.log(PARTICLES)
    return values, log_weights.log_softmax(-1), log_evidence


def test_intervals_of_a_marginal_cover_at_their_rate():
    """Null: p ± 1.96 s.e. covers the truth in 93 to 95 percent of experiments (32 runs: a little below 95).

    The share of 1,000 experiments has a standard error below 0.009, so that a false alarm at 0.90 or 0.98 is rarer than
    1 in 1,000. Pooling the runs with equal weights is biased with eight particles, and covers far less.
    """
    covered = torch.zeros(3)
    errors = []
    for values, log_weights, log_evidence in zip(*importance_sampling(), strict=True):
        marginal = pooled_marginal(values.tolist(), log_weights, log_evidence)
        for value in range(3):
            error = marginal[value] - float(POSTERIOR[value])
            covered[value] += abs(error) < 1.96 * marginal.standard_errors[value]
            errors.append(error)
    share = covered / REPETITIONS
    assert ((share > 0.90) & (share < 0.98)).all(), share
    # Equal weights would shift p(2) by several hundredths; ours has a bias of order 1 / (R N).
    assert abs(sum(errors[2::3]) / REPETITIONS) < 0.01


def test_intervals_of_the_log_evidence_cover_at_their_rate():
    """Null: as above, for the log of the mean evidence."""
    covered = 0
    for values, log_weights, log_evidence in zip(*importance_sampling(), strict=True):
        shape = log_weights.shape
        posterior = Posterior(
            samples={"x": values},
            returns=None,
            log_weights=log_weights,
            log_evidence=log_evidence,
            log_prior=torch.zeros(shape),
            log_likelihood=torch.zeros(shape),
            stats=StepStats.empty(*shape),
            observed={},
            cost=Cost(),
            settings={},
        )
        evidence = posterior.pooled_log_evidence()
        covered += abs(evidence.estimate - math.log(EVIDENCE)) < 1.96 * evidence.standard_error
    assert 0.90 < covered / REPETITIONS < 0.98, covered / REPETITIONS
