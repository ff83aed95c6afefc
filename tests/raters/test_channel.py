"""The likelihood with the truth summed out, against enumeration by hand and by Pyro."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

from pyro_llm.raters.channel import log_joint, log_likelihoods, log_marginal
from pyro_llm.raters.ratings import Ratings

PREVALENCE = torch.tensor([0.3]).double()
SENSITIVITY = torch.tensor([0.9, 0.6, 0.75]).double()
SPECIFICITY = torch.tensor([0.8, 0.7, 0.55]).double()


def test_a_score_is_a_vote_heard_unclearly():
    """Enumerate the vote that was not heard: its likelihood in the proportions of the score."""
    score = torch.tensor([0.0, 0.2, 0.5, 1.0]).double()
    right, wrong = log_likelihoods(score, torch.tensor(0.9), torch.tensor(0.7))
    for s, r, w in zip(score.tolist(), right.exp().tolist(), wrong.exp().tolist(), strict=True):
        weight = {1: s, 0: 1 - s}
        assert r == pytest.approx(sum(weight[v] * {1: 0.9, 0: 0.1}[v] for v in (0, 1)), abs=1e-7)
        assert w == pytest.approx(sum(weight[v] * {1: 0.3, 0: 0.7}[v] for v in (0, 1)), abs=1e-7)


def test_hard_votes_over_all_items_are_a_distribution():
    """The probabilities of all eight patterns of three votes sum to one, however the truth is."""
    patterns = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))
    ratings = Ratings.of(patterns)
    right, wrong = log_joint(ratings, PREVALENCE, SENSITIVITY, SPECIFICITY)
    assert right.exp().sum() == pytest.approx(0.3)
    assert wrong.exp().sum() == pytest.approx(0.7)
    assert log_marginal(ratings, PREVALENCE, SENSITIVITY, SPECIFICITY).exp().sum() == pytest.approx(1.0)


def test_against_pyros_own_enumeration():
    """The stock program of Dawid & Skene, with observed Bernoulli votes and a discrete latent truth."""
    votes = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]).double()
    truth = [None, 0, 1, None]

    @config_enumerate
    def program():
        for i in range(4):
            obs = None if truth[i] is None else torch.tensor(float(truth[i])).double()
            z = pyro.sample(f"truth_{i}", dist.Bernoulli(PREVALENCE[0]), obs=obs)
            for k in range(3):
                says_yes = torch.where(z == 1, SENSITIVITY[k], 1 - SPECIFICITY[k])
                pyro.sample(f"vote_{i}_{k}", dist.Bernoulli(says_yes), obs=votes[i, k])

    expected = -TraceEnum_ELBO(max_plate_nesting=0).loss(program, lambda: None)
    found = log_marginal(Ratings.of(votes, truth), PREVALENCE, SENSITIVITY, SPECIFICITY)
    assert float(found.sum()) == pytest.approx(expected, abs=1e-9)


def test_missing_ratings_cost_nothing_and_repeated_ones_count():
    ratings = Ratings.of([[1, None, None], [None, None, None]])
    found = log_marginal(ratings, PREVALENCE, SENSITIVITY, SPECIFICITY)
    assert found.tolist() == pytest.approx([math.log(0.3 * 0.9 + 0.7 * 0.2), 0.0])
    twice = Ratings(("x",), torch.tensor([0, 0]), torch.tensor([0, 0]), torch.tensor([1.0, 0.0]), torch.tensor([1.0]))
    found = log_marginal(twice, PREVALENCE, SENSITIVITY[:1], SPECIFICITY[:1])
    assert float(found) == pytest.approx(math.log(0.3 * 0.9 * 0.1))


def test_draws_are_batched_on_the_left():
    ratings = Ratings.of([[1, 0.3, None], [0, 0, 1]], truth=[None, 1])
    draws = [torch.stack([x, x.flip(-1)]) for x in (PREVALENCE, SENSITIVITY, SPECIFICITY)]
    found = log_marginal(ratings, *draws)
    assert found.shape == (2, 2)
    torch.testing.assert_close(found[1], log_marginal(ratings, *(draw[1] for draw in draws)))
