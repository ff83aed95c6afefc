"""Costs of stored rows, in each kind of budget."""

import math

import pytest

from pyro_llm import Prices
from pyro_llm.study.costs import cost_of
from pyro_llm.study.rows import Row

COST = {"lm_tokens_forwarded": 110.0, "lm_tokens_sampled": 100.0, "reward_tokens": 7.0}


def row(cost):
    return Row(
        key="", variant="", algorithm="PF", kind="generations", budget=8, seed=0, problem="a", cost=cost, seconds=2.0
    )


@pytest.mark.parametrize(("counted", "read"), [({"lm_tokens_read": 18.0}, 18), ({}, 10)])
def test_rows_with_and_without_a_count_of_what_was_read(counted, read):
    """Rows of earlier versions lack it: then what was forwarded beyond what was sampled."""
    stored = row(COST | counted)
    assert cost_of(stored, "lm_tokens") == 100 + read
    assert cost_of(stored, "total_tokens") == 107 + read
    assert cost_of(stored, "dollars", Prices(lm_input=1e6)) == read
    assert cost_of(stored, "seconds") == 2.0
    assert math.isnan(cost_of(stored, "dollars")) and math.isnan(cost_of(row(None), "lm_tokens"))
