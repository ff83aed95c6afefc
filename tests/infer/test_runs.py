"""Error bars need more than one run that counts."""

import math

import numpy as np
import pytest
import torch

from pyro_llm.infer.marginal import pooled_marginal
from pyro_llm.infer.readings import LogEvidence
from pyro_llm.infer.runs import effective_runs, evidence_of_families, spread_is_known


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [([1.0] * 4, 4.0), ([1.0, 1.0, 0.0], 2.0), ([1.0, 0.0, 0.0, 0.0], 1.0), ([1.0, 3.0], 1.6), ([0.0, 0.0], 0.0)],
)
def test_effective_runs(evidence, expected):
    log_evidence = torch.tensor(evidence, dtype=torch.float64).log()
    assert effective_runs(log_evidence) == pytest.approx(expected)
    assert effective_runs(log_evidence - 5000) == pytest.approx(expected)
    assert spread_is_known(log_evidence) == (expected >= 1.5)


@pytest.mark.parametrize(
    "log_evidence",
    [[-61.0, -50.0, -30.0, -17.6], [-3.0, -math.inf, -math.inf, -math.inf], [0.0, -2.0]],
    ids=["dominated", "dead", "mostly"],
)
def test_no_error_bars_where_one_run_holds_the_evidence(log_evidence):
    log_evidence = torch.tensor(log_evidence, dtype=torch.float64)
    log_weights = torch.full((len(log_evidence), 2), 0.5, dtype=torch.float64).log()
    values = [["a", "b"], *([["a", "a"]] * (len(log_evidence) - 1))]
    marginal = pooled_marginal(values, log_weights, log_evidence)
    assert sum(marginal.values()) == pytest.approx(1.0)
    assert all(math.isnan(error) for error in marginal.standard_errors.values())
    assert "±" not in repr(marginal)
    evidence = LogEvidence.pooled(log_evidence)
    assert evidence.estimate == pytest.approx(float(log_evidence.logsumexp(0)) - math.log(len(log_evidence)))
    assert math.isnan(evidence.standard_error)
    assert "±" not in str(evidence)


def test_families_count_as_one_run():
    """Four runs of equal evidence, of which three descend from one: 1.6 effective runs; all four from one: 1."""
    log_evidence, values = torch.zeros(4).double(), [["a"], ["a"], ["a"], ["b"]]
    log_weights = torch.zeros(4, 1).double()
    known = pooled_marginal(values, log_weights, log_evidence, np.array([1, 1, 1, 3]), num_exchanges=1)
    by_hand = math.sqrt((4 / 3) ** 2 * ((3 / 4 * (1 - 3 / 4)) ** 2 + (1 / 4 * (0 - 3 / 4)) ** 2))
    assert known.standard_errors["a"] == pytest.approx(by_hand)
    unknown = pooled_marginal(values, log_weights, log_evidence, np.array([1, 1, 1, 1]), num_exchanges=1)
    assert all(math.isnan(error) for error in unknown.standard_errors.values())
    dead = evidence_of_families(torch.tensor([0.0, -math.inf, -math.inf]), np.array([0, 2, 2]))
    assert dead.tolist() == [0.0, -math.inf]
