"""Intervals against cases that are known."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from pyro_llm.study.bootstrap import mean_interval, resampled_means


def test_the_interval_of_a_share_is_that_of_its_binomial_law():
    # Resampling n right and wrong answers draws Binomial(n, share) right ones, so the percentile interval is known.
    right = np.repeat([1.0, 0.0], [70, 30])
    found = mean_interval(right, 0, 1)
    exact = binom(100, 0.7).ppf([0.025, 0.975]) / 100
    assert found.value == 0.7
    assert [found.low, found.high] == pytest.approx(exact, abs=0.0101)  # one answer, by 2000 resamples


def test_paired_differences_are_narrower_than_unpaired_ones():
    rng = np.random.default_rng(1)
    first = rng.random(200) < 0.5
    second = first ^ (rng.random(200) < 0.05)
    paired = mean_interval(first.astype(float) - second, -1, 1)
    assert paired.high - paired.low < 0.08 < 4 * np.sqrt(0.25 / 200)


def test_coverage():
    # 300 studies of 60 problems, share 0.7. A percentile interval covers it a little less often than 95 %: its exact
    # coverage is summed from the binomial law. A count further than 4.3 standard deviations off that has a probability
    # below 2e-5 for the right code; an interval of 90 % instead would be 4.5 off.
    n, share, studies = 60, 0.7, 300
    counts = np.arange(n + 1)
    ends = [binom(n, k / n).ppf([0.025, 0.975]) / n if 0 < k < n else (0, 0) for k in counts]
    covers = np.array([low <= share <= high for low, high in ends])
    exact = float(binom(n, share).pmf(counts) @ covers)
    assert 0.92 < exact < 0.97
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(studies):
        found = mean_interval((rng.random(n) < share).astype(float), 0, 1)
        hits += found.low <= share <= found.high
    assert abs(hits - studies * exact) < 4.3 * np.sqrt(studies * exact * (1 - exact))


@pytest.mark.parametrize(("right", "n"), [(20, 20), (0, 20), (1, 1)])
def test_problems_that_all_come_out_alike_have_clopper_and_pearsons_interval(right, n):
    found = mean_interval([1.0] * right + [0.0] * (n - right), 0, 1)
    exact = binomtest(right, n).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_no_differences_still_leave_room_for_some():
    found = mean_interval([0.0] * 20, -1, 1)
    assert found.value == 0 and found.low == -found.high == pytest.approx(-0.1684, abs=1e-4)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([], 0, 1)


def test_resampled_means_are_paired_across_columns():
    values = np.random.default_rng(3).random((50, 1)) * [1.0, 2.0]
    means = resampled_means(values, 400)
    assert means.shape == (400, 2)
    assert np.allclose(means[:, 1], 2 * means[:, 0])
    assert means[:, 0].std() == pytest.approx(values[:, 0].std() / np.sqrt(50), rel=0.2)
