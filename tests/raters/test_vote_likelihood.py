import math

import pytest
import torch

from pyro_llm.errors import RatingsError
from pyro_llm.raters import RaterPosterior, RaterPrior, Vote, VoteLikelihood, Votes

TEXTS = ["a\nb", "a\na", "b"]


def votes(*cast):
    return Votes(tuple(Vote(prefix=prefix, vote=vote, rater=rater) for prefix, vote, rater in cast))


def known(sensitivity=0.9, specificity=0.7, prevalence=0.5):
    people = ("Ann", "Bob")
    return RaterPosterior.known(dict.fromkeys(people, sensitivity), dict.fromkeys(people, specificity), prevalence)


def ratios(cast, raters):
    return VoteLikelihood(votes(*cast), raters).log_ratio(TEXTS).exp().tolist()


def test_absent_votes_cost_nothing():
    assert ratios([], known()) == [1, 1, 1]
    assert ratios([("a\n", "skip", "Ann")], known()) == [1, 1, 1]
    assert ratios([("c\n", "yes", "Ann")], known()) == pytest.approx([1, 1, 1])


def test_a_vote_by_hand():
    """P(yes | right) = 0.9, P(yes) = 0.5 * 0.9 + 0.5 * 0.3 = 0.6."""
    assert ratios([("a\n", "yes", "Ann")], known()) == pytest.approx([0.9 / 0.6, 0.9 / 0.6, 1])
    assert ratios([("a\n", "no", "Ann")], known()) == pytest.approx([0.1 / 0.4, 0.1 / 0.4, 1])
    assert ratios([("a\nb", "no", "Ann")], known()) == pytest.approx([0.1 / 0.4, 1, 1])


def test_two_voters_on_one_prefix_share_its_truth():
    """P(both yes) = 0.5 * 0.81 + 0.5 * 0.09 = 0.45, more than 0.36 for prefixes of their own."""
    both = ratios([("b", "yes", "Ann"), ("b", "yes", "Bob")], known())
    assert both == pytest.approx([1, 1, 0.81 / 0.45])
    apart = ratios([("b", "yes", "Ann"), ("a\n", "yes", "Bob")], known())
    assert apart == pytest.approx([1.5, 1.5, 1.5])


def test_contradictory_votes_of_equally_good_voters_cancel():
    symmetric = known(0.8, 0.8)
    assert ratios([("b", "yes", "Ann"), ("b", "no", "Bob")], symmetric) == pytest.approx([1, 1, 1])


def test_contradictory_votes_widen_the_posterior():
    """Of two equally probable texts: sure after one vote, less sure after another against it."""
    people = RaterPosterior.from_prior(("Ann", "Bob"), RaterPrior.of_reliability(0.9))

    def entropy(cast):
        weights = torch.tensor(ratios(cast, people)[1:])
        return float(torch.special.entr(weights / weights.sum()).sum())

    agreed = entropy([("b", "yes", "Ann"), ("b", "yes", "Bob")])
    single = entropy([("b", "yes", "Ann")])
    contradicted = entropy([("b", "yes", "Ann"), ("b", "no", "Bob")])
    assert agreed < single < contradicted
    assert contradicted == pytest.approx(math.log(2), abs=0.01)


def test_a_voter_who_contradicts_the_others_is_trusted_less():
    """Bob's vote for "b" counts for less after he has disagreed with Ann elsewhere: errors are integrated jointly."""
    people = RaterPosterior.from_prior(("Ann", "Bob"), RaterPrior(prevalence=(1e4, 1e4)), draws=20_000)
    bob = ("b", "yes", "Bob")
    said = ["yes", "no"] * 3
    agree = [(f"x{i}\n", said[i], who) for i in range(4) for who in ("Ann", "Bob")]
    differ = [(f"x{i}\n", said[i + (who == "Bob")], who) for i in range(4) for who in ("Ann", "Bob")]
    trusted, alone, mistrusted = (ratios([bob, *more], people)[2] for more in (agree, [], differ))
    assert trusted > alone > mistrusted


def test_votes_on_other_problems_do_not_count():
    vote = Vote(prefix="b", vote="no", rater="Ann", problem="1 + 1")
    likelihood = VoteLikelihood(Votes((vote,)), known())
    assert likelihood.log_ratio(["b"], "2 + 2").tolist() == [0]
    assert float(likelihood.log_ratio(["b"], "1 + 1").exp()) == pytest.approx(0.25)


def test_unknown_voters_and_impossible_votes():
    with pytest.raises(RatingsError, match=r"Nothing is known of the raters \['Cy'\]"):
        VoteLikelihood(votes(("a", "yes", "Cy")), known())
    with pytest.raises(RatingsError, match="never err"):
        ratios([("b", "yes", "Ann"), ("b", "no", "Ann")], known(1.0, 1.0))


def test_what_a_rater_will_say_where_some_errors_are_ruled_out():
    """Two draws of the errors; nobody errs in the second, which contradictory votes rule out."""
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    rates = torch.tensor([[0.9, 0.9], [1.0, 1.0]], dtype=torch.float64)
    cast = votes(("b", "yes", "Ann"), ("b", "no", "Bob"))
    likelihood = VoteLikelihood(cast, RaterPosterior(("Ann", "Bob"), half, rates, rates))
    _, _, voted = likelihood.probability_of_yes("Ann")
    assert voted["b"].isfinite().all()
    assert float(voted["b"][0]) == pytest.approx(0.5)
    with pytest.raises(RatingsError, match="never err"):
        VoteLikelihood(cast, known(1.0, 1.0)).probability_of_yes("Ann")


def test_known_by_what_they_hold():
    raters = known()
    one, other = (VoteLikelihood(votes(("b", "yes", "Ann")), raters) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one.with_vote(Vote(prefix="a", vote="no", rater="Bob")) != one


@pytest.mark.parametrize("spelt", ["a", "a\n", "a\n\n"])
def test_newlines_at_the_end_of_a_prefix_do_not_matter(spelt):
    """Two equally good voters contradict each other, and cancel; spelt apart they would count as on two prefixes."""
    symmetric = known(0.9, 0.9)
    assert ratios([("a\n", "yes", "Ann"), (spelt, "no", "Bob")], symmetric) == pytest.approx([1, 1, 1])
    assert ratios([(spelt, "yes", "Ann")], symmetric) == pytest.approx([1.8, 1.8, 1])
    likelihood = VoteLikelihood(votes((spelt, "yes", "Ann")), symmetric)
    for text in ("a", "a\n", "a\n\nb"):
        assert float(likelihood.log_ratio([text]).exp()) == pytest.approx(1.8)
    assert likelihood.log_ratio(["ab", "", "\na"]).tolist() == [0, 0, 0]


def test_a_vote_on_an_empty_first_line():
    likelihood = VoteLikelihood(votes(("\n\n", "no", "Ann"), ("\n", "yes", "Bob")), known(0.9, 0.9))
    assert likelihood.log_ratio(["\nb", "\n\n\nb", "b"]).exp().tolist() == pytest.approx([1, 1, 1])
    one = VoteLikelihood(votes(("\n\n", "no", "Ann")), known(0.9, 0.9))
    assert one.log_ratio(["\nb", "\n\n\nb", "b"]).exp().tolist() == pytest.approx([0.2, 0.2, 1])
