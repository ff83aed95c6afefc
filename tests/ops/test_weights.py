import math

import pytest
import torch

from pyro_llm.ops.weights import all_dead, effective_sample_size, log_mean_exp, normalise

INF = math.inf


def test_log_mean_exp_of_huge_and_dead_weights():
    log_weights = torch.tensor([[5000.0, 5000.0 + math.log(3)], [-INF, math.log(4)], [-INF, -INF]])
    expected = torch.tensor([5000 + math.log(2), math.log(2), -INF], dtype=torch.float64)
    torch.testing.assert_close(log_mean_exp(log_weights), expected, rtol=1e-6, atol=1e-6)


def test_weights_are_float64_whatever_comes_in():
    log_weights = torch.zeros(2, 3, dtype=torch.float16)
    assert {f(log_weights).dtype for f in (log_mean_exp, normalise, effective_sample_size)} == {torch.float64}


@pytest.mark.parametrize(
    ("weights", "ess"),
    [([1.0, 1.0, 1.0, 1.0], 4.0), ([1.0, 0.0, 0.0, 0.0], 1.0), ([3.0, 1.0, 0.0, 0.0], 1.6), ([0.0] * 4, 0.0)],
)
@pytest.mark.parametrize("log_scale", [0.0, -5000.0, 5000.0])
def test_effective_sample_size(weights, ess, log_scale):
    log_weights = torch.tensor([weights], dtype=torch.float64).log() + log_scale
    torch.testing.assert_close(effective_sample_size(log_weights), torch.tensor([ess], dtype=torch.float64))


def test_normalised_weights_sum_to_one_in_each_run():
    log_weights = torch.tensor([[0.0, 800.0, -INF], [-900.0, -901.0, -902.0]])
    normalised = normalise(log_weights)
    torch.testing.assert_close(normalised.exp().sum(-1), torch.ones(2, dtype=torch.float64))
    assert normalised[0, 2] == -INF


def test_all_dead_is_by_run():
    assert all_dead(torch.tensor([[-INF, -INF], [-INF, -1e30]])).tolist() == [True, False]
