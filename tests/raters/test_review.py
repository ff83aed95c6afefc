"""Which prefixes to ask about, and what votes make of a run: by hand on four texts."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.errors import LowSampleSizeWarning, NoTextError, OptionError
from pyro_llm.infer import Importance, ParticleGibbs, Posterior
from pyro_llm.infer.stats import StepStats
from pyro_llm.lm import TableLM
from pyro_llm.raters import (
    RaterPosterior,
    Vote,
    VoteLikelihood,
    Votes,
    condition_on_votes,
    informative_prefixes,
    without_votes,
)
from pyro_llm.raters.conditioning import pooled_ess
from pyro_llm.raters.review import votes_within_lines
from pyro_llm.run_scope import Cost

TEXTS = ["x\nanswer: 1", "x\nanswer: 2", "y\nanswer: 1", "y\nanswer: 1"]
WEIGHTS = [0.4, 0.3, 0.2, 0.1]
ANN = RaterPosterior.known({"Ann": 0.9, "Bob": 0.8}, {"Ann": 0.7, "Bob": 0.8})
NONE = VoteLikelihood(Votes(), ANN)


def entropy(*probabilities):
    return -sum(p * math.log(p) for p in probabilities if p)


def run_of(lm, texts, weights, runs=1):
    """A posterior of given texts: characters as tokens."""
    vocabulary = [*sorted({character for text in texts for character in text}), "<eos>"]
    table = TableLM(lambda tokens: [1 / len(vocabulary)] * len(vocabulary), vocabulary, len(vocabulary) - 1)
    width = max(map(len, texts))
    rows = [[vocabulary.index(c) for c in text] + [-1] * (width - len(text)) for text in texts]
    shape = (runs, len(texts) // runs)
    state = table.prompt("?").append(torch.tensor(rows).reshape(*shape, width))
    weights = torch.tensor(weights, dtype=torch.float64).reshape(shape)
    zeros = torch.zeros(shape).double()
    return Posterior(
        samples={},
        returns=state,
        log_weights=(weights / weights.sum(-1, keepdim=True)).log(),
        log_evidence=weights.sum(-1).log(),
        log_prior=zeros,
        log_likelihood=zeros,
        stats=StepStats.empty(*shape),
        observed={},
        cost=Cost(),
        settings={"seed": 0},
    )


@pytest.fixture(params=[1, 2])
def run(lm, request):
    """Once as one run, once as two that are pooled by their evidence: the same posterior."""
    return run_of(lm, TEXTS, WEIGHTS, request.param)


def test_information_by_hand(run):
    """Ann says yes to her text's prefixes with 0.9, to any other with 0.6. Answers: 0.7 and 0.3."""
    found = {question.prefix: question for question in informative_prefixes(run, NONE, "Ann")}
    assert set(found) == {"x\n", "y\n", "x\nanswer: 1", "x\nanswer: 2", "y\nanswer: 1"}
    expected = {}  # P(yes | answer 1), P(yes | answer 2)
    expected["x\n"] = (0.4 * 0.9 + 0.3 * 0.6) / 0.7, 0.9
    expected["y\n"] = (0.4 * 0.6 + 0.3 * 0.9) / 0.7, 0.6
    expected["x\nanswer: 1"] = (0.4 * 0.9 + 0.3 * 0.6) / 0.7, 0.6
    expected["x\nanswer: 2"] = 0.6, 0.9
    expected["y\nanswer: 1"] = expected["y\n"]
    for prefix, (one, two) in expected.items():
        yes = 0.7 * one + 0.3 * two
        information = entropy(yes, 1 - yes) - 0.7 * entropy(one, 1 - one) - 0.3 * entropy(two, 1 - two)
        assert found[prefix].information == pytest.approx(information, abs=1e-12)
        assert found[prefix].yes == pytest.approx(yes)
    assert found["x\n"].share == pytest.approx(0.7)
    order = informative_prefixes(run, NONE, "Ann")
    assert [q.information for q in order] == sorted((q.information for q in order), reverse=True)
    assert order[0].prefix == "x\nanswer: 2"
    assert informative_prefixes(run, NONE, "Ann", count=2) == order[:2]


def test_information_is_the_expected_fall_of_the_entropy(run):
    """By doing it: condition on either vote, and average the entropies of the answer."""
    cast = NONE.with_vote(Vote(prefix="x\nanswer: 2", vote="no", rater="Bob"))
    for likelihood in (NONE, cast):
        now = condition_on_votes(run, likelihood).marginal(lambda text: text[-1])
        for question in informative_prefixes(run, likelihood, "Ann"):
            after = 0.0
            for vote, probability in (("yes", question.yes), ("no", 1 - question.yes)):
                voted = likelihood.with_vote(Vote(prefix=question.prefix, vote=vote, rater="Ann"))
                after += probability * entropy(*condition_on_votes(run, voted).marginal(lambda text: text[-1]).values())
            assert question.information == pytest.approx(entropy(*now.values()) - after, abs=1e-12)


def test_what_somebody_voted_on_or_skipped_is_not_asked_again(run):
    likelihood = NONE
    for vote in ("skip", "no"):
        first = informative_prefixes(run, likelihood, "Ann", count=1)[0]
        likelihood = likelihood.with_vote(Vote(prefix=first.prefix, vote=vote, rater="Ann"))
        assert first.prefix not in [q.prefix for q in informative_prefixes(run, likelihood, "Ann")]
        assert first.prefix in [q.prefix for q in informative_prefixes(run, likelihood, "Bob")]


def test_conditioning_by_hand(run):
    voted = NONE.with_vote(Vote(prefix="y\n", vote="no", rater="Ann"))  # a factor of 0.1 / 0.4
    conditioned = condition_on_votes(run, voted)
    weights = torch.tensor([0.4, 0.3, 0.2 / 4, 0.1 / 4], dtype=torch.float64)
    pooled = conditioned.pooled_log_weights.exp().reshape(-1)
    torch.testing.assert_close(pooled, weights / weights.sum())
    evidence = conditioned.log_evidence.exp().sum()
    assert float(evidence) == pytest.approx(0.4 + 0.3 + 0.3 / 4)
    torch.testing.assert_close(conditioned.log_weights.exp().sum(-1), torch.ones(run.num_runs).double())
    assert pooled_ess(conditioned) == pytest.approx(float(weights.sum() ** 2 / weights.square().sum()))
    assert conditioned.settings["votes"] == 1
    assert "votes" not in run.settings
    assert float(run.pooled_log_weights.exp().reshape(-1)[0]) == pytest.approx(0.4)


def test_votes_are_taken_off_again_and_do_not_count_twice(run):
    voted = NONE.with_vote(Vote(prefix="y\n", vote="no", rater="Ann"))
    conditioned = condition_on_votes(run, voted)
    with pytest.raises(OptionError, match="1 votes already: take them off by without_votes"):
        condition_on_votes(conditioned, voted)
    before = without_votes(conditioned, voted)
    for name in ("log_weights", "log_evidence", "log_likelihood"):
        torch.testing.assert_close(getattr(before, name), getattr(run, name), rtol=1e-12, atol=1e-12)
    again = condition_on_votes(before, voted.with_vote(Vote(prefix="y\n", vote="no", rater="Bob")))
    assert again.settings["votes"] == 2


def test_what_votes_ruled_out_does_not_come_back():
    sure = RaterPosterior.known({"Ann": 1.0}, {"Ann": 1.0})
    voted = VoteLikelihood(Votes((Vote(prefix="y\n", vote="no", rater="Ann"),)), sure)
    before = without_votes(condition_on_votes(run_of(None, TEXTS, WEIGHTS), voted), voted)
    torch.testing.assert_close(before.log_weights.exp(), torch.tensor([[4 / 7, 3 / 7, 0, 0]], dtype=torch.float64))


def test_no_votes_change_nothing_and_contradictory_ones_widen(run):
    before = run.marginal(lambda text: text[-1])
    assert condition_on_votes(run, NONE).marginal(lambda text: text[-1]) == pytest.approx(before)
    yes = NONE.with_vote(Vote(prefix="x\nanswer: 1", vote="yes", rater="Bob"))
    both = yes.with_vote(Vote(prefix="x\nanswer: 1", vote="no", rater="Bob"))
    entropies = [entropy(*condition_on_votes(run, votes).marginal(lambda text: text).values()) for votes in (yes, both)]
    assert entropies[0] < entropies[1] == pytest.approx(entropy(0.4, 0.3, 0.3))


def test_a_low_sample_size_is_told(lm):
    run = run_of(lm, ["a"] * 40 + ["b"], [1.0] * 40 + [2.0])
    sure = RaterPosterior.known({"Ann": 0.999}, {"Ann": 0.9999})
    with pytest.warns(LowSampleSizeWarning, match=r"41 particles are worth 1\.\d.*observe_votes"):
        condition_on_votes(run, VoteLikelihood(Votes((Vote(prefix="a", vote="no", rater="Ann"),)), sure))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        condition_on_votes(run, VoteLikelihood(Votes((Vote(prefix="b", vote="no", rater="Ann"),)), sure))


def test_saved_with_the_votes_in_its_weights(run, tmp_path):
    conditioned = condition_on_votes(run, NONE.with_vote(Vote(prefix="y\n", vote="no", rater="Ann")))
    conditioned.save(tmp_path / "run.nc")
    loaded = Posterior.load(tmp_path / "run.nc")
    torch.testing.assert_close(loaded.log_weights, conditioned.log_weights)
    assert loaded.settings["votes"] == 1


def test_runs_that_cannot_be_reviewed():
    def no_text():
        return pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(NoTextError):
        condition_on_votes(Importance(no_text, num_particles=2).run(), NONE)
    with pytest.raises(OptionError, match="Markov chains"):
        condition_on_votes(ParticleGibbs(no_text, num_particles=2, num_iterations=2).run(), NONE)


@pytest.mark.parametrize("spelt", ["x", "x\n", "x\n\n"])
def test_a_prefix_is_asked_about_once_however_it_is_spelt(spelt):
    run = run_of(None, ["x", "x\nanswer: 1", "x\n\nanswer: 2", "y\nanswer: 1"], WEIGHTS)
    asked = [question.prefix.rstrip("\n") for question in informative_prefixes(run, NONE, "Ann")]
    assert sorted(asked) == ["x", "x\n\nanswer: 2", "x\nanswer: 1", "y", "y\nanswer: 1"]
    voted = NONE.with_vote(Vote(prefix=spelt, vote="no", rater="Ann"))
    again = [question.prefix.rstrip("\n") for question in informative_prefixes(run, voted, "Ann")]
    assert sorted(again) == sorted(set(asked) - {"x"})
    assert votes_within_lines(run, voted.votes) == []
    after = condition_on_votes(run, voted.with_vote(Vote(prefix="x", vote="yes", rater="Bob")))
    both = VoteLikelihood(
        Votes((Vote(prefix="x", vote="no", rater="Ann"), Vote(prefix="x", vote="yes", rater="Bob"))), ANN
    )
    torch.testing.assert_close(after.log_weights, condition_on_votes(run, both).log_weights)
