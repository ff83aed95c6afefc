import math

import numpy as np
import pytest
import torch

from pyro_llm.errors import OutputPathError, PosteriorFileError, RatingsError, RewardError
from pyro_llm.infer import Importance, Posterior
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.raters import RaterPosterior, RaterPrior, RatersReward, Ratings
from pyro_llm.rewards import FunctionReward

ANN = FunctionReward(lambda text: 0.9 if text.startswith("a") else 0.2)
BOB = FunctionReward(lambda text: 1.0 if text.endswith("b") else 0.0)


@pytest.fixture
def posterior():
    return RaterPosterior.from_prior(("Ann", "Bob"), RaterPrior.of_reliability(0.8), draws=300, seed=1)


@pytest.fixture
def state(lm):
    return lm.prompt("?").append(torch.tensor([[[0, 0], [0, 1]], [[1, 0], [1, 1]], [[0, 0], [2, -1]]]))


def test_the_reward_is_bayes_rule_with_averaged_likelihoods(posterior, state):
    """Written out for each text and draw."""
    found = posterior.reward({"Ann": ANN, "Bob": BOB})(state)
    assert found.shape == state.batch_shape
    for text, log_odds in zip(state.texts.flat, found.reshape(-1).tolist(), strict=True):
        joint = {1: 0.0, 0: 0.0}
        for d in range(300):
            for truth in (1, 0):
                prevalence = float(posterior.prevalence[d])
                product = prevalence if truth else 1 - prevalence
                for k, reward in enumerate((ANN, BOB)):
                    score = reward.fn(text)
                    says_yes = float(posterior.sensitivity[d, k] if truth else 1 - posterior.specificity[d, k])
                    product *= score * says_yes + (1 - score) * (1 - says_yes)
                joint[truth] += product
        assert log_odds == pytest.approx(math.log(joint[1] / joint[0]), abs=1e-9)


def test_known_symmetric_errors_are_with_error(state):
    known = RaterPosterior.known({"Ann": 0.85}, {"Ann": 0.85}, prevalence=0.5)
    torch.testing.assert_close(known.reward({"Ann": ANN})(state), ANN.with_error(0.15, 0.15)(state))


def test_a_rater_left_out_says_nothing(posterior, state):
    """As if missing: it is not averaged over, nor taken to say 1/2 (which would be the same)."""
    table = torch.tensor([[ANN.fn(text), math.nan] for text in state.texts.flat])
    expected = posterior.log_odds(Ratings.of(table, raters=["Ann", "Bob"])).reshape(state.batch_shape)
    torch.testing.assert_close(posterior.reward({"Ann": ANN})(state), expected)
    half = FunctionReward(lambda text: 0.5)
    torch.testing.assert_close(posterior.reward({"Ann": ANN, "Bob": half})(state), expected)


def test_a_prevalence_of_ones_own(posterior, state):
    found = posterior.reward({"Ann": ANN}, prevalence=0.5)(state)
    higher = posterior.reward({"Ann": ANN}, prevalence=0.8)(state)
    torch.testing.assert_close(higher - found, torch.full_like(found, math.log(4)))
    with pytest.raises(RatingsError, match="prevalence=1"):
        posterior.with_prevalence(1)


def test_in_a_program_its_evidence_is_the_mean_reward(posterior):
    """One token, so that the evidence is the sum over three texts; a z-test of 4 fails by chance in 6 of 100,000."""
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
    reward = posterior.reward({"Ann": ANN, "Bob": BOB})
    exact = reward(lm.prompt("?").append(torch.tensor([[0], [1], [2]]))).sigmoid()
    law = torch.tensor([0.5, 0.3, 0.2]).double()
    mean = float(law @ exact)
    error = math.sqrt(float(law @ (exact - mean).square()) / 4000)
    torch.manual_seed(0)
    run = Importance(ReasoningSSM(lm, reward, max_steps=1, max_tokens=1, stop=None), num_particles=4000).run("?")
    assert abs(float(run.log_evidence.exp()) - mean) < 4 * error


def test_equal_rewards_are_the_same_to_accept(posterior):
    assert posterior.reward({"Ann": ANN}) == posterior.reward({"Ann": ANN})
    assert posterior.reward({"Ann": ANN}) != posterior.reward({"Ann": BOB})
    assert hash(posterior.reward({"Ann": ANN})) == hash(posterior.reward({"Ann": ANN}))
    anew = [posterior.reward({"Ann": ANN}, prevalence=0.3) for _ in range(2)]
    assert anew[0] == anew[1] and hash(anew[0]) == hash(anew[1])
    assert anew[0] != posterior.reward({"Ann": ANN}, prevalence=0.4)
    assert repr(posterior.reward({"Ann": ANN})).startswith("RatersReward(Ann=FunctionReward(")
    assert repr(posterior.reward({"Ann": ANN}) ** 2.0).endswith("** 2.0")


def test_bad_raters(posterior):
    with pytest.raises(RatingsError, match=r"Nothing is known of the raters \['Cy'\]"):
        posterior.reward({"Cy": ANN})
    with pytest.raises(RewardError, match="at least one rater"):
        posterior.reward({})
    with pytest.raises(RewardError, match="'Ann' is no reward"):
        RatersReward(posterior, (("Ann", 0.5),))
    with pytest.raises(RatingsError, match="of different raters"):
        RaterPosterior.known({"Ann": 0.9}, {"Bob": 0.9})
    with pytest.raises(RatingsError, match=r"sensitivity has shape \[3, 2\]"):
        RaterPosterior(("Ann",), torch.ones(3), torch.ones(3, 2), torch.ones(3, 1))


def test_draws_from_the_prior_leave_the_global_generators_alone():
    before = torch.get_rng_state()
    first = RaterPosterior.from_prior(("Ann",), draws=20_000, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.sensitivity, RaterPosterior.from_prior(("Ann",), draws=20_000, seed=2).sensitivity)
    assert float(first.sensitivity.mean()) == pytest.approx(2 / 3, abs=4 * 0.178 / math.sqrt(20_000))
    assert float((first.specificity < 0.5).double().mean()) == pytest.approx(3 / 16, abs=4 * 0.39 / math.sqrt(20_000))


def test_it_is_shown_as_means_and_intervals(posterior):
    summary = posterior.summary()
    mean, low, high = summary["sensitivity[Bob]"]
    assert mean == pytest.approx(float(posterior.sensitivity[:, 1].mean()))
    assert float((posterior.sensitivity[:, 1] < low).double().mean()) == pytest.approx(0.05, abs=0.01)
    assert float((posterior.sensitivity[:, 1] > high).double().mean()) == pytest.approx(0.05, abs=0.01)
    assert repr(posterior).startswith("RaterPosterior(2 raters, 300 draws)\n  prevalence ")
    assert posterior.table().row_count == 5


def test_saved_and_loaded(posterior, tmp_path):
    chains = RaterPosterior(
        posterior.raters, posterior.prevalence, posterior.sensitivity, posterior.specificity, 3, {"method": "nuts"}
    )
    chains.save(tmp_path / "raters.nc")
    loaded = RaterPosterior.load(tmp_path / "raters.nc")
    assert (loaded.raters, loaded.chains, loaded.fit) == (("Ann", "Bob"), 3, {"method": "nuts"})
    for name in ("prevalence", "sensitivity", "specificity"):
        assert torch.equal(getattr(loaded, name), getattr(chains, name))
    with pytest.raises(OutputPathError):
        chains.save(tmp_path / "none" / "raters.nc")


def test_files_that_hold_no_raters(posterior, tmp_path):
    with pytest.raises(PosteriorFileError, match="There is no file"):
        RaterPosterior.load(tmp_path / "none.nc")
    (tmp_path / "text.nc").write_text("no")
    with pytest.raises(PosteriorFileError, match="not a netCDF file"):
        RaterPosterior.load(tmp_path / "text.nc")
    tree = posterior.to_datatree()
    tree.attrs["kind"] = "other"
    tree.to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    with pytest.raises(PosteriorFileError, match="holds no raters"):
        RaterPosterior.load(tmp_path / "other.nc")
    with pytest.raises(PosteriorFileError, match=r"is not complete|no posterior of pyro_llm"):
        posterior.save(tmp_path / "raters.nc")
        Posterior.load(tmp_path / "raters.nc")
    tree = posterior.to_datatree()
    tree["posterior"] = tree["posterior"].dataset.drop_vars("sensitivity")
    tree.to_netcdf(tmp_path / "half.nc", engine="h5netcdf")
    with pytest.raises(PosteriorFileError, match="is not complete"):
        RaterPosterior.load(tmp_path / "half.nc")


def test_arviz_takes_it(posterior):
    group = posterior.to_arviz().posterior
    assert group["sensitivity"].dims == ("chain", "draw", "rater")
    assert list(group["rater"].values) == ["Ann", "Bob"]
    np.testing.assert_array_equal(group["specificity"].values[0], posterior.specificity.numpy())


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: RaterPosterior.known({"Ann": 1.2}, {"Ann": 0.9}), r"sensitivity is 1\.2"),
        (lambda: RaterPosterior.known({"Ann": 0.9}, {"Ann": -0.1}), r"specificity is -0\.1"),
        (lambda: RaterPosterior.known({"Ann": 0.9}, {"Ann": math.nan}), "specificity is nan"),
        (lambda: RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.9}, prevalence=1.5), r"prevalence=1\.5"),
        (lambda: RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.9}, prevalence=0.0), r"prevalence=0\.0"),
        (
            lambda: RaterPosterior(("A",), torch.tensor([1.5]), torch.ones(1, 1), torch.ones(1, 1)),
            r"prevalence is 1\.5",
        ),
        (lambda: RaterPosterior((), torch.ones(0), torch.ones(0, 0), torch.ones(0, 0)), r"prevalence has shape \[0\]"),
        (
            lambda: RaterPosterior((), torch.tensor(0.5), torch.ones(1, 0), torch.ones(1, 0)),
            r"prevalence has shape \[\]",
        ),
    ],
)
def test_what_is_no_probability(make, reason):
    with pytest.raises(RatingsError, match=reason):
        make()


def test_raters_that_never_err_and_contradict_each_other(state):
    sure = RaterPosterior.known({"Ann": 1.0, "Bob": 1.0}, {"Ann": 1.0, "Bob": 1.0})
    ann = FunctionReward(lambda text: float(text.startswith("a")))
    bob = FunctionReward(lambda text: float(text not in ("bb", "\n")))
    with pytest.raises(RatingsError, match=r"The scores of 'ba' contradict.*never err: 'Ann' 0, 'Bob' 1\."):
        sure.reward({"Ann": ann, "Bob": bob})(state)
    with pytest.raises(RatingsError, match="The scores of item 1 contradict"):
        sure.log_odds(Ratings.of([[1, 1], [0, 1]], raters=["Ann", "Bob"]))
    assert sure.log_odds(Ratings.of([[1, 1], [0, 0]], raters=["Ann", "Bob"])).tolist() == [math.inf, -math.inf]
