import pytest
import torch

from pyro_llm.ops.search import AnnealedResampling, Candidates, KeepBest, KeepBestOfSubtrees, temperature


def candidates(scores, identity=None, number=1):
    scores = torch.tensor(scores, dtype=torch.float64)
    identity = torch.arange(scores.numel()).reshape(scores.shape) if identity is None else torch.tensor(identity)
    return Candidates(scores, identity, number)


def test_the_best_are_kept_in_each_run():
    scores = [[1.0, 4.0, 3.0, 2.0, 0.0, 5.0], [9.0, 8.0, 7.0, 1.0, 2.0, 3.0]]
    assert KeepBest(3, distinct=False)(candidates(scores)).ancestors.tolist() == [
        [5, 5, 5, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
    ]
    assert KeepBest(1, distinct=False)(candidates(scores)).ancestors[0].tolist() == [5, 1, 2, 3, 0, 4]


def test_copies_are_kept_once_and_all_that_differ_share_the_slots():
    scores, identity = [[4.0, 4.0, 4.0, 1.0, 1.0, -torch.inf]], [[7, 7, 7, 2, 2, 7]]
    assert KeepBest(2, distinct=False)(candidates(scores, identity)).ancestors.tolist() == [[0, 0, 1, 1, 2, 2]]
    assert KeepBest(2, distinct=True)(candidates(scores, identity)).ancestors.tolist() == [[0, 0, 0, 3, 3, 3]]
    rows = candidates([[1.0] * 5], [[0, 1, 2, 0, 0]])
    assert KeepBest(1, distinct=True)(rows).ancestors.tolist() == [[0, 0, 1, 1, 2]]


def test_equal_scores_prefer_the_lower_slot():
    assert KeepBest(2, distinct=True)(candidates([[0.0] * 4])).ancestors.tolist() == [[0, 0, 1, 1]]
    assert KeepBestOfSubtrees(2)(candidates([[0.0] * 4])).ancestors.tolist() == [[0, 0, 2, 2]]


def test_subtrees_keep_their_own_best():
    scores = [[1.0, 2.0, 9.0, 8.0], [0.0, -torch.inf, -torch.inf, 0.0]]
    assert KeepBestOfSubtrees(2)(candidates(scores)).ancestors.tolist() == [[1, 1, 2, 2], [0, 0, 3, 3]]


# Shares 0.9, 0.05, 0.05, 0: ESS 1 / 0.815, entropy 0.39440 / log 4 = 0.28450.
SHARES = torch.tensor([[0.9, 0.05, 0.05, 0.0]], dtype=torch.float64).log()


@pytest.mark.parametrize(
    ("annealing", "progress", "expected"),
    [
        ("ess", 0.25, 4 * 0.815 * 0.75),
        ("ess", 0.9, 1.0),
        ("entropy", 0.25, 1 / (0.284497 + 0.715503 * 0.25)),
        ("base", 0.25, 1.75),
        ("base", 1.0, 1.0),
    ],
)
def test_temperatures(annealing, progress, expected):
    assert temperature(SHARES, progress, annealing).item() == pytest.approx(expected, rel=1e-4)


def test_annealing_is_early_and_where_particles_are_few():
    rule = AnnealedResampling(8, ess_threshold=0.5, early_phase=0.5, annealing="ess", resampling="systematic")
    scores = torch.cat([SHARES, torch.zeros_like(SHARES)])
    assert rule.inverse_temperatures(scores, 2).tolist() == pytest.approx([1 / (4 * 0.815 * 0.75), 1.0])
    assert rule.inverse_temperatures(scores, 4).tolist() == [1.0, 1.0]
    assert rule.inverse_temperatures(scores[:, :1], 2).tolist() == [1.0, 1.0]


def test_runs_without_any_positive_score_stay():
    rule = AnnealedResampling(8, ess_threshold=0.5, early_phase=0.5, annealing="entropy", resampling="multinomial")
    selected = rule(candidates([[-torch.inf] * 3, [-torch.inf, 0.0, -torch.inf]]))
    assert selected.ancestors.tolist() == [[0, 1, 2], [1, 1, 1]]
