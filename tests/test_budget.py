"""What a budget is: its items, its prices, and the cost that is held against it."""

import json
import math
from dataclasses import asdict, replace

import pytest

from pyro_llm import Budget, Prices
from pyro_llm.errors import OptionError
from pyro_llm.run_scope import (
    BudgetSpent,
    Cost,
    RunScope,
    begin_generations,
    claim,
    current_cost,
    passes_count_for,
    run_scope,
)

COUNTS = ["generations", "lm_tokens", "lm_tokens_sampled", "lm_tokens_forwarded", "reward_tokens", "reward_calls"]
CHEAP = Prices(lm_input=1.0, lm_output=4.0, reward_input=0.5)


@pytest.mark.parametrize("item", [*COUNTS, "seconds", "dollars"])
@pytest.mark.parametrize("limit", [0, -1, math.nan, math.inf, True, "3"])
def test_what_is_no_limit(item, limit):
    with pytest.raises(OptionError, match=f"{item}=.* is no limit"):
        Budget(**{item: limit}, prices=CHEAP if item == "dollars" else None)


@pytest.mark.parametrize("item", COUNTS)
def test_counts_are_whole(item):
    with pytest.raises(OptionError, match="integer"):
        Budget(**{item: 2.5})


def test_what_a_budget_lacks():
    with pytest.raises(OptionError, match="limits something"):
        Budget()
    with pytest.raises(OptionError, match="without prices"):
        Budget(dollars=1.0)
    with pytest.raises(OptionError, match="without dollars"):
        Budget(lm_tokens=3, prices=CHEAP)
    with pytest.raises(OptionError, match=r"prices=0\.3"):
        Budget(dollars=1.0, prices=0.3)


@pytest.mark.parametrize("price", [-1.0, math.nan, math.inf, True, "1"])
def test_what_is_no_price(price):
    with pytest.raises(OptionError, match="is no price"):
        Prices(lm_input=price)


def test_prices_that_make_all_free():
    with pytest.raises(OptionError, match="free"):
        Prices()


def test_dollars():
    cost = Cost(lm_tokens_forwarded=110, lm_tokens_read=30, lm_tokens_sampled=100, reward_tokens=60, seconds=7200)
    assert CHEAP.dollars(cost) == pytest.approx((30 * 1.0 + 100 * 4.0 + 60 * 0.5) / 1e6)
    assert Prices(hour=2.5).dollars(cost) == pytest.approx(5.0)
    assert Prices(reward_input=1.0, hour=1.0).dollars(cost) == pytest.approx(2.0 + 60e-6)


def test_prices_from_a_file(tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"lm_input": 1.0, "lm_output": 4, "reward_input": 0.5}))
    assert Prices.load(path) == CHEAP


@pytest.mark.parametrize("content", ['{"lm_imput": 1.0}', '{"lm_input": "1.0"}', "[]", "{", '{"lm_input": -1.0}', "{}"])
def test_files_without_prices(content, tmp_path):
    path = tmp_path / "prices.json"
    path.write_text(content)
    with pytest.raises(OptionError):
        Prices.load(path)
    with pytest.raises(OptionError, match="Cannot read"):
        Prices.load(tmp_path / "none.json")


def test_costs_add_up():
    one = Cost(
        lm_calls=1, lm_tokens_forwarded=20, lm_tokens_read=9, lm_tokens_sampled=12, seconds=0.5, peak_memory_bytes=7,
        generations=4,
    )  # fmt: skip
    other = Cost(
        lm_calls=2, lm_tokens_forwarded=5, lm_tokens_read=5, reward_tokens=3, seconds=1.0, peak_memory_bytes=9,
        generations=3,
    )  # fmt: skip
    total = sum([one, other])
    assert total == Cost(
        lm_calls=3, lm_tokens_forwarded=25, lm_tokens_read=14, lm_tokens_sampled=12, reward_tokens=3, seconds=1.5,
        peak_memory_bytes=9, generations=7,
    )  # fmt: skip
    assert (total.lm_tokens_read, total.lm_tokens) == (14, 26)
    with pytest.raises(TypeError):
        one + 1


def test_tokens_that_were_sampled_and_not_forwarded_are_tokens():
    assert Cost(lm_tokens_forwarded=3, lm_tokens_read=2, lm_tokens_sampled=5).lm_tokens == 7


def test_costs_that_were_stored():
    cost = Cost(lm_tokens_forwarded=20, lm_tokens_read=9, lm_tokens_sampled=12, seconds=0.5)
    assert Cost.restored(asdict(cost)) == cost
    old = {"lm_tokens_forwarded": 20, "lm_tokens_sampled": 12, "seconds": 0.5}  # before tokens read were counted
    assert Cost.restored(old) == replace(cost, lm_tokens_read=8)
    assert Cost.restored({**old, "lm_tokens_sampled": 30}).lm_tokens_read == 0


def test_claims():
    scope = RunScope(budget=Budget(reward_calls=3, lm_tokens_forwarded=10))
    with run_scope(scope):
        claim(reward_calls=3)
        current_cost().reward_calls += 3
        assert scope.allows(lm_tokens_forwarded=10)
        assert not scope.allows(reward_calls=1)
        assert scope.stopped_by is None  # asking is no attempt
        with pytest.raises(BudgetSpent):
            claim(reward_calls=1)
        assert scope.stopped_by == "reward_calls"
        with pytest.raises(BudgetSpent):  # whatever it is: the run is over
            claim()
    assert not issubclass(BudgetSpent, Exception)
    claim(reward_calls=10**9)  # outside any run


def test_generations_are_claimed_and_counted():
    with run_scope(RunScope(budget=Budget(generations=5))) as scope:
        begin_generations(5)
        with pytest.raises(BudgetSpent):
            begin_generations(1)
    assert scope.cost.generations == 5


def test_a_pass_for_several_runs_is_claimed_from_each():
    rich, poor = RunScope(), RunScope(budget=Budget(reward_calls=2))
    with pytest.raises(BudgetSpent) as spent, passes_count_for([rich, poor]):
        for _ in range(3):
            claim(reward_calls=1)
            current_cost().reward_calls += 1
    assert spent.value.scope is poor
    assert rich.cost.reward_calls == poor.cost.reward_calls == 2
