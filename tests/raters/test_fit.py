"""The posterior of raters' errors, against closed forms.

Each comparison is a z-test whose null is that the draws come from the posterior; a bound of 4 (5 where several are
made) raises a false alarm in less than one case of 10,000. Seeds are fixed.
"""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy.special import betaln
from scipy.stats import beta

from pyro_llm.errors import LowSampleSizeWarning, OptionError, RatingsError
from pyro_llm.raters import RaterPosterior, RaterPrior, Ratings, fit_raters
from pyro_llm.raters.channel import log_marginal

# Ann: of 8 right items she calls 6 right, of 5 wrong ones 3 wrong. Bob: 7 of 8, and 5 of 5.
VOTES = [[1, 1]] * 5 + [[1, 0]] + [[0, 1]] * 2 + [[1, 0]] * 2 + [[0, 0]] * 3
TRUTH = [1] * 8 + [0] * 5
LABELLED = Ratings.of(VOTES, TRUTH, ["Ann", "Bob"])
EXACT = {  # Beta(4, 2) and Beta(1, 1) with the counts added
    "prevalence": beta(1 + 8, 1 + 5),
    "sensitivity[Ann]": beta(4 + 6, 2 + 2),
    "sensitivity[Bob]": beta(4 + 7, 2 + 1),
    "specificity[Ann]": beta(4 + 3, 2 + 2),
    "specificity[Bob]": beta(4 + 5, 2 + 0),
}


@pytest.fixture(scope="module")
def svi():
    pyro.set_rng_seed(1)
    return fit_raters(LABELLED, draws=2000, steps=150)


def draws_by_name(posterior):
    draws = {"prevalence": posterior.prevalence}
    for name in ("sensitivity", "specificity"):
        draws |= {f"{name}[{rater}]": getattr(posterior, name)[:, k] for k, rater in enumerate(posterior.raters)}
    return draws


def assert_exact(posterior, size):
    for name, draws in draws_by_name(posterior).items():
        law = EXACT[name]
        assert abs(float(draws.mean()) - law.mean()) < 5 * law.std() / math.sqrt(size), name
        # The variance of a sample variance is (kurtosis - 1) sd^4 / n; of the standard deviation by the delta method.
        spread = math.sqrt((law.stats("k") + 2) / 4 / size)
        assert abs(float(draws.std()) / law.std() - 1) < 5 * spread, name
    sensitivity, specificity = posterior.sensitivity[:, 0], posterior.specificity[:, 0]
    correlation = float(torch.corrcoef(torch.stack([sensitivity, specificity]))[0, 1])
    assert abs(correlation) < 5 / math.sqrt(size)


def test_svi_is_exact_where_the_posterior_is_conjugate(svi):
    """What the normal law of the guide misses is put right by its weights: the size of the sample is theirs."""
    assert svi.fit["method"] == "svi"
    assert 1000 < svi.fit["ess"] <= 2000
    assert_exact(svi, min(svi.fit["ess"], 2000) / 2)  # resampling adds at most as much variance again


def test_nuts_is_exact_where_the_posterior_is_conjugate():
    pyro.set_rng_seed(2)
    posterior = fit_raters(LABELLED, method="nuts", draws=120, warmup=60, chains=2)
    assert posterior.chains == 2
    assert posterior.prevalence.shape == (240,)
    assert posterior.fit["r_hat"] < 1.2
    assert_exact(posterior, min(posterior.fit["ess"], 240.0))


def test_the_errors_are_integrated_out_and_not_plugged_in(svi):
    """Ann votes five times on a new item; P(five yes | right) is a ratio of Beta functions, not a power of the mean."""
    five = torch.zeros(5, dtype=torch.long)
    new = Ratings(("Ann",), five, five, torch.ones(5).double(), torch.tensor([torch.nan]).double())
    log_right = betaln(10 + 5, 4) - betaln(10, 4) + math.log(9 / 15)
    log_wrong = betaln(4 + 5, 7) - betaln(4, 7) + math.log(6 / 15)  # false acceptances are Beta(4, 7)
    exact = log_right - log_wrong
    # Delta method: the relative variances of both averages, from exact moments.
    right = math.exp(betaln(20, 4) - betaln(10, 4) - 2 * (betaln(15, 4) - betaln(10, 4))) * (10 / 16) / (9 / 15) - 1
    wrong = math.exp(betaln(14, 7) - betaln(4, 7) - 2 * (betaln(9, 7) - betaln(4, 7))) * (7 / 16) / (6 / 15) - 1
    error = math.sqrt((right + wrong) / (svi.fit["ess"] / 2))
    found = float(svi.log_odds(new))
    assert abs(found - exact) < 4 * error
    plugged_in = math.log(9 / 6) + 5 * math.log((10 / 14) / (4 / 11))
    assert abs(plugged_in - exact) > 6 * error  # so that the test would notice
    averaged = torch.sigmoid(torch.sub(*svi.log_joint(new))).mean().logit()  # the other wrong way
    assert abs(float(averaged) - exact) > 6 * error


def test_one_vote_of_each_rater_is_judged_by_the_mean_errors(svi):
    """Given known truths the errors are independent, so that averaging and plugging in the means agree."""
    found = float(svi.log_odds(Ratings.of([[1, 0]], raters=["Ann", "Bob"])))
    exact = math.log(9 / 6) + math.log((10 / 14) / (4 / 11)) + math.log((3 / 14) / (9 / 11))
    assert found == pytest.approx(exact, abs=0.15)


def test_without_known_truths_against_importance_sampling_from_the_prior():
    votes = [[1, 1, 1]] * 4 + [[0, 0, 0]] * 3 + [[1, 1, 0]] * 2 + [[0, 0.3, None]]
    ratings = Ratings.of(votes)
    prior = RaterPosterior.from_prior(ratings.raters, draws=200_000, seed=3)
    log_weights = log_marginal(ratings, prior.prevalence[:, None], prior.sensitivity, prior.specificity).sum(-1)
    weights = log_weights.softmax(0)
    pyro.set_rng_seed(4)
    posterior = fit_raters(ratings, draws=2000, steps=200)
    for name in ("prevalence", "sensitivity", "specificity"):
        reference, found = getattr(prior, name).reshape(200_000, -1), getattr(posterior, name).reshape(2000, -1)
        exact = weights @ reference
        variance = weights @ (reference - exact).square()
        error = (variance * (2 / posterior.fit["ess"] + weights.square().sum())).sqrt()
        assert bool(((found.mean(0) - exact).abs() < 5 * error).all()), name


def test_better_than_chance_breaks_the_symmetry():
    """Without truths the flipped explanation is as good; the prior chooses: raters who agree are right."""
    pyro.set_rng_seed(5)
    posterior = fit_raters(Ratings.of([[1, 1, 1]] * 15 + [[0, 0, 0]] * 15), steps=150)
    assert bool((posterior.sensitivity.mean(0) > 0.8).all())
    assert bool((posterior.specificity.mean(0) > 0.8).all())


def test_a_rater_worse_than_chance_is_found_out_by_known_truths():
    pyro.set_rng_seed(6)
    posterior = fit_raters(Ratings.of([[0]] * 15 + [[1]] * 15, [1] * 15 + [0] * 15), steps=150)
    assert float(posterior.sensitivity.mean()) == pytest.approx(4 / 21, abs=0.03)
    assert float(posterior.log_odds(Ratings.of([[1]]))) < -1


def test_the_same_seed_gives_the_same_draws_and_the_parameter_store_is_left_alone():
    pyro.clear_param_store()
    pyro.param("mine", torch.tensor(1.0))
    found = []
    for _ in range(2):
        pyro.set_rng_seed(7)
        found.append(fit_raters(LABELLED, draws=50, steps=100).sensitivity)
    assert torch.equal(*found)
    assert list(pyro.get_param_store()) == ["mine"]
    pyro.clear_param_store()


def test_too_few_steps_are_told():
    """A guide that has learnt nothing of 400 labelled items: its weights are nearly all on a few draws."""
    many = Ratings.of(np.repeat([[1.0], [0.0]], 200, 0), [1] * 200 + [0] * 200)
    pyro.set_rng_seed(8)
    with pytest.warns(LowSampleSizeWarning, match="Take more steps"):
        fit_raters(many, draws=100, steps=1)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "vi"}, "no method 'vi'"),
        ({"draws": 0}, "draws=0"),
        ({"steps": 1.5}, "steps=1.5"),
        ({"warmup": True}, "warmup=True"),
    ],
)
def test_bad_options(options, reason):
    with pytest.raises(OptionError, match=reason):
        fit_raters(LABELLED, **options)


@pytest.mark.parametrize("counts", [(0, 1), (1,), (1, math.inf), (-1, 2)])
def test_bad_priors(counts):
    with pytest.raises(OptionError, match="two counts"):
        RaterPrior(sensitivity=counts)
    with pytest.raises(OptionError, match="above 0 and below 1"):
        RaterPrior.of_reliability(1.0)


def test_too_few_draws_for_r_hat_and_no_items():
    with pytest.raises(OptionError, match="draws=3: R-hat needs at least 4"):
        fit_raters(LABELLED, method="nuts", draws=3)
    for method in ("svi", "nuts"):
        with pytest.raises(RatingsError, match="no items"):
            fit_raters(Ratings.of(torch.zeros(0, 2)), method=method)
