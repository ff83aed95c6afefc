"""Returns of a study, against sums done by hand."""

import numpy as np
import pytest

from pyro_llm.errors import OptionError
from pyro_llm.study.results import Curve
from pyro_llm.study.returns import Return, Terms, best_return, first_that_pays, returns
from pyro_llm.study.rows import Row

TERMS = Terms(right_value=10, wrong_cost=4, price=2, person_cost=3, threshold=0.6, length=5)


def row(problem, budget=1, decision="7", right=True, probability=0.9, tokens=100_000, **changes):
    cost = {"lm_tokens_forwarded": tokens, "lm_tokens_sampled": tokens / 2, "reward_tokens": tokens / 10}
    return Row(
        key="", variant="", algorithm="PF", kind="generations", budget=budget, seed=0, problem=problem,
        **{"decision": decision, "right": right, "probability": probability, "cost": cost, **changes},
    )  # fmt: skip


def curve(*columns):
    budgets = [rows[0].budget for rows in columns]
    return Curve("", "PF", "generations", budgets, np.zeros((len(columns[0]), len(columns))), {}, list(columns))


def test_each_outcome_by_hand():
    rows = [
        row("a"),  # 10
        row("b", right=False),  # -4
        row("c", probability=0.59),  # right, but withheld: 10 - 3
        row("d", decision=None, right=False, probability=0.95),  # no answer: 7
        row("e", probability=0.6),  # at the threshold it is given: 10
    ]
    [line] = returns(curve(rows), TERMS)
    assert (line.right, line.wrong, line.withheld) == pytest.approx((0.4, 0.2, 0.4))
    tokens = 110_000 * 5
    assert line.cost == pytest.approx(tokens / 1e6 * 2)
    assert line.value.value == pytest.approx((10 - 4 + 7 + 7 + 10) / 5 - line.cost)
    assert line.value.low < line.value.value < line.value.high
    assert line.gain is None


def test_an_algorithm_without_probabilities_withholds_only_what_is_missing():
    rows = [row("a", probability=None), row("b", probability=None, decision=None, right=False)]
    [line] = returns(curve(rows), TERMS)
    assert (line.right, line.wrong, line.withheld) == (0.5, 0.0, 0.5)


def test_seeds_are_averaged_within_a_problem():
    rows = [row("a"), row("a", right=False), row("b", tokens=300_000), row("b", tokens=300_000)]
    [line] = returns(curve(rows), TERMS)
    assert line.right == 0.75
    assert line.cost == pytest.approx((1.1 + 3.3) / 2)


def test_a_run_that_failed_goes_to_a_person_and_costs_what_others_do():
    failed = row("b", decision=None, right=False, probability=None, cost=None, error="it broke")
    [line] = returns(curve([row("a"), failed]), TERMS)
    assert line.withheld == 0.5
    assert line.cost == pytest.approx(1.1)


def test_gains_are_paired_whatever_the_order_of_rows():
    """All problems gain 14 less what the second budget costs more, so the interval hardly has a width."""
    problems = [f"p{number}" for number in range(40)]
    first = [row(problem, right=False) for problem in problems]
    second = [row(problem, budget=4, tokens=200_000) for problem in reversed(problems)]
    terms = Terms(right_value=10, wrong_cost=4, price=2)
    one, two = returns(curve(first, second), terms)
    assert two.gain.value == pytest.approx(14 - 0.22)
    assert one.value.value == pytest.approx(-4 - 0.22)
    mixed = [row(problem, budget=4, right=index % 2 == 0) for index, problem in enumerate(problems)]
    easy = [row(problem, right=index % 2 == 0) for index, problem in enumerate(problems)]
    gain = returns(curve(easy, mixed), terms)[1].gain
    assert gain.value == 0  # unpaired, its interval would be 12 wide
    assert gain.high - gain.low < 5


def lines(*values_and_gains):
    from pyro_llm.study.bootstrap import Estimate

    return [
        Return("PF", budget, 1, 0, 0, cost, Estimate(value, value - 1, value + 1), gain and Estimate(*gain))
        for budget, cost, value, gain in values_and_gains
    ]


def test_the_best_and_the_first_that_pays():
    some = lines((1, 1, 2.0, None), (4, 4, 3.0, (1, -0.5, 2)), (16, 16, 5.0, (3, 1, 4)), (64, 64, 5.0, (3, 2, 4)))
    assert best_return(some).budget == 16
    assert first_that_pays(some).budget == 16
    assert first_that_pays(some[:2]) is None


@pytest.mark.parametrize("wrong", [{"price": -1}, {"threshold": 1.5}, {"right_value": float("nan")}, {"length": True}])
def test_terms_that_make_no_sense(wrong):
    with pytest.raises(OptionError, match=next(iter(wrong))):
        Terms(**wrong)


def test_by_hand():
    assert Terms(right_value=10, person_cost=3).by_hand == 7
