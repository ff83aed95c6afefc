import math

import numpy as np
import pytest
from scipy.stats import norm

from pyro_llm.errors import OptionError
from pyro_llm.study.results import Curve
from pyro_llm.study.scaling import Range, budget_at, scaling_rate
from pyro_llm.study.scaling_words import rate_in_words

BUDGETS = [1.0, 4.0, 16.0, 64.0]


def curve(label, accuracies, n=1000, budgets=BUDGETS, scale=1.0):
    """Problems of which exactly these shares are right; what is right with one budget is right with larger ones."""
    ranks = (np.arange(n) + 0.5) / n
    right = (ranks[:, None] < np.asarray(accuracies)).astype(float)
    costs = {"generations": np.tile(budgets, (n, 1)) * scale, "seconds": np.full((n, len(budgets)), np.nan)}
    return Curve("", label, "generations", list(budgets), right, costs, [])


def test_a_curve_that_is_shifted_by_a_factor():
    # Accuracy 0.2 + 0.1 log4(budget) for both, the budget of one counted four times: the ratio is 4 wherever both are.
    line = [0.2, 0.3, 0.4, 0.5]
    found = scaling_rate(curve("a", line), curve("b", line, scale=4.0), accuracy=0.35)
    assert found.ratio.is_exact and found.ratio.low == pytest.approx(4)
    assert found.budget.low == pytest.approx(8) and found.reference_budget.low == pytest.approx(32)
    assert found.interval.low == pytest.approx(4) and found.interval.high == pytest.approx(4)  # so in each sample
    assert found.not_reached == 0


def test_the_accuracy_of_a_budget_of_the_reference():
    found = scaling_rate(curve("a", [0.2, 0.5, 0.6, 0.7]), curve("b", [0.1, 0.2, 0.3, 0.5]), at_budget=64)
    assert found.accuracy == 0.5
    assert str(found.ratio) == "16"
    assert found.interval.low <= 16 <= found.interval.high
    best = scaling_rate(curve("a", [0.2, 0.5, 0.6, 0.7]), curve("b", [0.1, 0.2, 0.5, 0.5]))
    assert best.accuracy == 0.5 and str(best.ratio) == "4"


def test_what_is_not_reached_is_a_bound():
    strong, weak = curve("strong", [0.6, 0.7, 0.8, 0.9]), curve("weak", [0.1, 0.2, 0.3, 0.4])
    found = scaling_rate(strong, weak, accuracy=0.85)
    assert found.reference_budget == Range(64.0, math.inf)
    assert found.ratio == Range(64 / found.budget.low, math.inf) and found.interval.high == math.inf
    assert str(found.ratio).startswith("at least 2") and "∞" in str(found)
    found = scaling_rate(weak, strong, accuracy=0.85)
    assert found.ratio == Range(0.0, found.reference_budget.low / 64) and found.not_reached == 1
    assert found.interval.low == 0 and str(found.ratio).startswith("at most 0.5")
    found = scaling_rate(strong, weak, accuracy=0.3)  # the strong one begins above
    assert found.budget == Range(0.0, 1.0) and found.ratio == Range(16.0, math.inf)
    assert scaling_rate(weak, weak, accuracy=0.99).ratio == Range(0.0, math.inf)
    assert str(Range(0.0, math.inf)) == "unknown"


@pytest.mark.parametrize(
    ("accuracies", "asked", "budget"),
    [
        ([0.2, 0.3, 0.4, 0.5], 0.3, Range(4, 4)),
        ([0.2, 0.4, 0.4, 0.5], 0.4, Range(4, 4)),  # the smallest
        ([0.2, 0.5, 0.3, 0.6], 0.5, Range(4, 4)),  # what a smaller budget has reached stays reached
        ([0.2, 0.5, 0.3, 0.6], 0.55, Range(32, 32)),  # half the way from 16 to 64, in logarithms
        ([0.2, 0.3, 0.4, 0.5], 0.25, Range(2, 2)),
        ([0.2, 0.3, 0.4, 0.5], 0.2, Range(0, 1)),
        ([0.2, 0.3, 0.4, 0.5], 0.51, Range(64, math.inf)),
        ([0.5, 0.4, 0.3, 0.2], 0.35, Range(0, 1)),
        ([0.5, 0.4, 0.3, 0.2], 0.5, Range(0, 1)),
        ([0.625, 0.333, 0.292, 0.25], 0.542, Range(0, 1)),
        ([0.2, 0.6, 0.3, 0.2], 0.4, Range(2, 2)),
        ([0.5, 0.4, 0.3, 0.2], 0.51, Range(64, math.inf)),
    ],
)
def test_budget_at(accuracies, asked, budget):
    found = budget_at(BUDGETS, accuracies, asked)
    assert (found.low, found.high) == pytest.approx((budget.low, budget.high))


def test_the_interval_covers_the_ratio():
    # True curves: a problem of difficulty u, uniform, is solved by b with a budget above 64^u, by a above 64^u / 4, so
    # that the true ratio is 4 between accuracies 1/3 and 2/3; 100 studies of 150 problems, each with noise of its own.
    # Null: the interval covers in 90 % of studies at least (percentile intervals fall a little short of 95); fewer than
    # 80 hits of 100 have a probability of 0.0008 then. An interval of half the width covers in about 67 %.
    rng = np.random.default_rng(5)
    hits = 0
    budgets = np.array([1, 2, 4, 8, 16, 32, 64.0])
    for _ in range(100):
        need = 64 ** rng.random(150)
        curves = []
        for label, factor in (("a", 4.0), ("b", 1.0)):
            noisy = need[:, None] * np.exp(rng.normal(0, 0.5, (150, 1)))
            right = (budgets[None] * factor > noisy).astype(float)
            costs = {"generations": np.tile(budgets, (150, 1))}
            curves.append(Curve("", label, "generations", budgets.tolist(), right, costs, []))
        found = scaling_rate(*curves, accuracy=0.5, resamples=200)
        hits += found.interval.low <= 4 <= found.interval.high
    assert hits >= 80


def test_the_interval_covers_the_ratio_of_a_curve_that_falls():
    # True curves: a problem is solved with a budget if a normal variable of its own plus noise of the budget is below a
    # threshold, so that a has 0.2, 0.5, 0.8, 0.5, 0.2 right, b 0.1 to 0.7 and half the way between 0.4 and 0.6. a has
    # 0.5 first with 4, b with 4^2.5 = 32: the true ratio is 8. 100 studies of 150 problems; null and false-alarm rate
    # as above. A curve that is levelled where it falls has at most 0.44 right, and so never 0.5.
    rng = np.random.default_rng(7)
    budgets, hits = [1.0, 4.0, 16.0, 64.0, 256.0], 0
    shares = {"a": [0.2, 0.5, 0.8, 0.5, 0.2], "b": [0.1, 0.2, 0.4, 0.6, 0.7]}
    for _ in range(100):
        easy = rng.normal(0, math.sqrt(0.5), (150, 1))
        curves = []
        for label, accuracies in shares.items():
            right = (easy + rng.normal(0, math.sqrt(0.5), (150, 5)) < norm.ppf(accuracies)).astype(float)
            costs = {"generations": np.tile(budgets, (150, 1))}
            curves.append(Curve("", label, "generations", budgets, right, costs, []))
        found = scaling_rate(*curves, accuracy=0.5, resamples=200)
        hits += found.interval.low <= 8 <= found.interval.high
    assert hits >= 80


def test_the_highest_that_a_reference_reaches_is_its_highest():
    falling = curve("b", [0.3, 0.6, 0.4, 0.2])
    found = scaling_rate(curve("a", [0.2, 0.4, 0.5, 0.7]), falling, resamples=200)
    assert found.accuracy == pytest.approx(0.6) and found.reference_budget == Range(4.0, 4.0)
    assert found.budget.low == pytest.approx(32)
    found = scaling_rate(falling, curve("a", [0.2, 0.4, 0.5, 0.5]), resamples=200)
    assert found.budget.is_exact and 1 < found.budget.low < 4 and found.not_reached == 0


def test_bad_questions():
    one = curve("a", [0.2, 0.3, 0.4, 0.5])
    with pytest.raises(OptionError, match="either"):
        scaling_rate(one, one, at_budget=4, accuracy=0.3)
    with pytest.raises(OptionError, match="at_budget=5"):
        scaling_rate(one, one, at_budget=5)
    with pytest.raises(OptionError, match="cost='tokens': choose one of generations"):
        scaling_rate(one, one, cost="tokens")
    with pytest.raises(OptionError, match="was not counted"):
        scaling_rate(one, one, cost="seconds")


def test_a_rate_in_words():
    line, high, flat = [0.2, 0.3, 0.4, 0.5], [0.6, 0.7, 0.8, 0.9], [0.5] * 4
    for own, reference, words in (
        (flat, flat, "Scaling rate of a: it cannot be told, as both reach the accuracy 0.500 at the smallest budget, 1 "
         "generation."),
        (line, high, "a does not reach the accuracy 0.900 with 64 generations; b does with 64."),
        (high, line, "Scaling rate of a: a needs at most 1 generation, its smallest budget, for the accuracy 0.500, "
         "b 64, which is at least 64 times as many (95 % interval 64 to ∞)."),
    ):  # fmt: skip
        assert rate_in_words(scaling_rate(curve("a", own), curve("b", reference), resamples=200)) == words
    assert "for the accuracy 0.500, b at most 1, its smallest budget, which is at most 0.0156 times" in rate_in_words(
        scaling_rate(curve("a", line), curve("b", [0.5, 0.4, 0.3, 0.2]), resamples=200)
    )
    shifted = scaling_rate(curve("a", line), curve("b", line, scale=4.0), accuracy=0.35)
    assert rate_in_words(shifted) == (
        "Scaling rate of a: a needs 8 generations for the accuracy 0.350, b 32, which is 4 times as many; there they "
        "agree on every one of the 1000 problems, which tells no interval."
    )
    assert str(shifted) == "4 [no interval]"
    neither = scaling_rate(curve("a", line), curve("b", line), accuracy=0.99, resamples=200)
    assert "neither reaches the accuracy 0.990: not a with 64 generations, nor b with 64" in rate_in_words(neither)
    near = scaling_rate(curve("a", [0.2, 0.3, 0.4, 0.49], n=50), curve("b", line, n=50), resamples=200)
    assert "of resampled sets of problems; b does with 64" in rate_in_words(near)


def test_what_agrees_on_every_problem_tells_no_interval():
    """Both are right on the same problems with 64, whatever they are with less, and whatever that costs."""

    def both(changed=(), cost=1.0):
        one, other = curve("a", [0.2, 0.3, 0.4, 0.8], n=40), curve("b", [0.1, 0.2, 0.3, 0.8], n=40)
        other.right[list(changed), 3] = 1 - other.right[list(changed), 3]
        other.costs["generations"][:, 3] *= 1 + cost * np.linspace(0, 1, 40)
        return scaling_rate(one, other)

    assert both(cost=0.0).agreed == both().agreed == 40
    assert both(cost=0.0).interval.is_exact  # which is why it must not be told
    assert rate_in_words(both(cost=0.0)) == (
        "Scaling rate of a: a needs 64 generations for the accuracy 0.800, b 64, which is as many; there they agree on "
        "every one of the 40 problems, which tells no interval."
    )
    apart = both(changed=(0, 39))  # as many right, but not the same ones
    assert apart.accuracy == pytest.approx(0.8) and apart.agreed == 0 and not apart.interval.is_exact
    assert "95 % interval" in rate_in_words(apart) and "[no interval]" not in str(apart)


def test_a_reference_whose_accuracy_has_fallen():
    """With 64 it is right as often as with its smallest budget was more than enough for: the sentence says so."""
    strong, falling = curve("a", [0.5, 0.6, 0.7, 0.8]), curve("b", [0.4, 0.6, 0.5, 0.3])
    found = scaling_rate(strong, falling, at_budget=64)
    assert found.reference_least == Range(0.0, 1.0)
    assert rate_in_words(found).endswith("; b is right as often with at most 1, its smallest budget.")
    assert scaling_rate(strong, curve("b", [0.3, 0.4, 0.5, 0.6]), at_budget=64).reference_least is None
    assert scaling_rate(strong, falling).reference_least is None
