import numpy as np
import pytest

from pyro_llm.diagnostics import pareto_k
from pyro_llm.diagnostics.pareto import pareto_k_threshold

RANKS = (np.arange(20_000) + 0.5) / 20_000


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_the_shape_of_pareto_weights(shape):
    """The quantiles of a Pareto distribution; the estimate of a tail of 425 has a standard error of about 0.06."""
    assert pareto_k(-shape * np.log(RANKS)) == pytest.approx(shape, abs=0.06)
    assert pareto_k(100 - shape * np.log(RANKS[::-1])) == pytest.approx(shape, abs=0.06)  # of no scale, in no order


def test_bounded_weights_have_no_heavy_tail():
    """Uniform weights are of shape -1; the prior of the fit draws it towards 0.5 a little."""
    assert pareto_k(np.log(1 - RANKS)) == pytest.approx(-1, abs=0.1)


def test_weights_of_zero_are_no_tail():
    weights = np.append(-0.5 * np.log(RANKS), np.full(2_000, -np.inf))
    assert pareto_k(weights) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("log_weights", [np.zeros(1000), np.arange(4.0), [], [-np.inf] * 100])
def test_no_tail_to_fit(log_weights):
    assert np.isnan(pareto_k(log_weights))


def test_shapes_and_thresholds():
    with pytest.raises(ValueError, match=r"\[S\]"):
        pareto_k(np.zeros((2, 100)))
    assert pareto_k_threshold(1000) == pytest.approx(1 - 1 / 3)
    assert pareto_k_threshold(10**9) == 0.7
