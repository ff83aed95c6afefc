import math

import pytest
import torch

from pyro_llm.errors import NonFiniteWeightError, OptionError
from pyro_llm.ops.search import Scores, check_score

FACTORS = [[0.5, 0.9], [0.25, 0.3], [0.75, 0.6]]
EXPECTED = {
    "last": [0.75, 0.3],
    "product": [0.5 * 0.25 * 0.75, 0.9 * 0.3],
    "min": [0.25, 0.3],
    "mean": [0.5, 0.6],
    "lp": [0.5 * 0.25 * 0.75 * 0.1, 0.9 * 0.3 * 0.2],
}


def folded(score):
    """Two particles; the last factor does not judge the second, nor the one before anybody."""
    scores = Scores(score, 2)
    scores.note_draw(torch.tensor([0.1, 0.2]).double().log())
    for factor, judged in zip(FACTORS, [None, None, torch.tensor([True, False])], strict=True):
        scores.fold(torch.tensor(factor).double().log(), judged)
        scores.fold(torch.zeros(2).double(), torch.tensor([False, False]))
    return scores


@pytest.mark.parametrize("score", EXPECTED)
def test_scores_of_factors(score):
    assert folded(score).values.exp().tolist() == pytest.approx(EXPECTED[score])


@pytest.mark.parametrize("score", EXPECTED)
def test_scores_follow_the_ancestors(score):
    scores = folded(score)
    scores.select(torch.tensor([1, 1]))
    first, second = EXPECTED[score][1], EXPECTED[score][1]
    assert scores.values.exp().tolist() == pytest.approx([first, second])
    scores.fold(torch.tensor([0.5, 0.5]).double().log(), torch.tensor([True, False]))
    expected = {"last": 0.5, "product": first / 2, "min": 0.3, "mean": (0.9 + 0.3 + 0.5) / 3, "lp": first / 2}
    assert scores.values.exp().tolist() == pytest.approx([expected[score], second])


@pytest.mark.parametrize("score", EXPECTED)
def test_a_factor_of_zero_is_a_score(score):
    scores = Scores(score, 2)
    scores.fold(torch.tensor([-math.inf, 0.0]).double(), None)
    scores.fold(torch.tensor([-math.inf, 0.0]).double(), None)
    assert scores.values.tolist() == [-math.inf, 0.0]


def test_the_joint_density_must_be_known():
    scores = Scores("lp", 1)
    scores.note_draw(torch.tensor([math.nan]))
    with pytest.raises(NonFiniteWeightError, match="choose another score"):
        _ = scores.values


def test_unknown_scores():
    with pytest.raises(OptionError, match="'last', 'product', 'min', 'mean', 'lp'"):
        check_score("best")
