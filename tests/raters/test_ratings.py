import numpy as np
import pytest
import torch

from pyro_llm.errors import RatingsError
from pyro_llm.raters import Ratings


def test_a_table_in_long_form():
    ratings = Ratings.of(np.array([[1, np.nan], [0.25, 0]]), truth=[1, None], raters=["Ann", "prm"])
    assert ratings.raters == ("Ann", "prm")
    assert ratings.item.tolist() == [0, 1, 1]
    assert ratings.rater.tolist() == [0, 0, 1]
    assert ratings.score.tolist() == [1, 0.25, 0]
    assert (ratings.num_items, ratings.num_raters) == (2, 2)
    assert repr(ratings) == "Ratings(2 items, 1 of known truth; 3 ratings by 'Ann', 'prm')"


@pytest.mark.parametrize(
    ("scores", "truth", "raters", "reason"),
    [
        ([[1.5]], None, None, "item 0 by 'rater 0' is 1.5"),
        ([[-0.1, 1]], None, ["a", "b"], "by 'a' is -0.1"),
        ([[1]], [2], None, "truth of item 0 is 2.0"),
        ([[1]], [1, 0], None, None),
        ([[1], [0]], [1], None, "one entry for each item"),
        ([1, 0], None, None, "a row for each item"),
        ([[1, 0]], None, ["a"], "2 columns, and there are 1 names"),
        ([[1, 0]], None, ["a", "a"], "a name of its own"),
        ([["yes"]], None, None, "something other than numbers"),
        ([[1], [1, 0]], None, None, "rows of equal length"),
        (torch.zeros(2, 0), None, None, "at least one"),
    ],
)
def test_what_is_no_rating(scores, truth, raters, reason):
    if reason is None:  # an item that nobody rated is an item all the same
        assert Ratings.of(scores, truth, raters).num_items == 2
        return
    with pytest.raises(RatingsError, match=reason):
        Ratings.of(scores, truth, raters)


@pytest.mark.parametrize(("item", "rater", "reason"), [(0, 1, "other than the 1"), (-1, 0, "one entry for each")])
def test_ratings_of_nothing_and_by_nobody(item, rater, reason):
    with pytest.raises(RatingsError, match=reason):
        Ratings(("a",), torch.tensor([item]), torch.tensor([rater]), torch.ones(1), torch.zeros(1))
