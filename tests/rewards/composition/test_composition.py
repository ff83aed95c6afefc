"""Composed rewards: their arithmetic, that they are rewards again, and what `accept` makes of them."""

import math
from fractions import Fraction

import pyro
import pyro.poutine as poutine
import pytest
import torch

from pyro_llm import accept
from pyro_llm.distributions import LLM
from pyro_llm.errors import OptionError, RewardError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.rewards import Calibrated, Ensemble, FunctionReward, PlattScaling, Power, RewardModel, WithError
from pyro_llm.run_scope import run_scope

TEXTS = ["a", "b", "ab", ""]


@pytest.fixture
def lm():
    return TableLM(lambda tokens: [0.25] * 4, ["a", "b", "ab", "."], eos_token_id=3)


@pytest.fixture
def state(lm):
    return lm.prompt("a problem").append(torch.tensor([[[0], [1]], [[2], [-1]]]))


def table(*probabilities):
    """A reward of the four texts."""
    values = dict(zip(TEXTS, probabilities, strict=True))
    return FunctionReward(values.__getitem__)


ONE, OTHER = (0.9, 0.5, 0.25, 0.01), (0.5, 0.2, 0.75, 1.0)
EXACT = {
    "product": lambda p, q: p * q,
    "min": min,
    "mixture": lambda p, q: (p + q) / 2,
    "mean": lambda p, q: 1 / (1 + math.sqrt((1 - p) * (1 - q) / (p * q))),
}


@pytest.mark.parametrize("how", EXACT)
def test_ensembles(state, how):
    actual = Ensemble([table(*ONE), table(*OTHER)], how=how)(state)
    assert actual.dtype == torch.float64
    exact = [float(EXACT[how](Fraction(p), Fraction(q))) for p, q in zip(ONE, OTHER, strict=True)]
    torch.testing.assert_close(
        actual.sigmoid(), torch.tensor(exact, dtype=torch.float64).reshape(2, 2), rtol=1e-12, atol=0
    )


def test_weights(state):
    rewards, first = [table(*ONE), table(*OTHER)], (0, 0)
    mixture = Ensemble(rewards, weights=[3, 1], how="mixture")(state)[first].sigmoid().item()
    assert mixture == pytest.approx(0.75 * 0.9 + 0.25 * 0.5, rel=1e-12)
    mean = Ensemble(rewards, weights=[3, 1], how="mean")(state)[first].item()
    assert mean == pytest.approx(0.75 * math.log(9), rel=1e-12)
    product = Ensemble(rewards, weights=[2, 0.5])(state)[first].sigmoid().item()
    assert product == pytest.approx(0.9**2 * 0.5**0.5, rel=1e-12)


def test_certain_members(lm):
    state, yes, no, half = lm.prompt(""), FunctionReward(lambda t: 1), FunctionReward(lambda t: 0), table(0, 0, 0, 0.5)
    for how, expected in {"product": -math.inf, "min": -math.inf, "mixture": 0.0}.items():
        assert Ensemble([yes, no], how=how)(state).item() == expected
    assert Ensemble([yes, half])(state).item() == pytest.approx(0.0, abs=1e-15)
    assert Ensemble([no, half], how="mean")(state).item() == -math.inf
    with pytest.raises(RewardError, match=r"sure to accept the text ''.*with_error"):
        Ensemble([yes, no], how="mean")(state)


def test_what_is_no_ensemble(state):
    reward = table(*ONE)
    for arguments, message in [
        (([],), "at least one"),
        (([reward], [1.0, 2.0]), "2 weights for 1"),
        (([reward], [0.0]), "positive"),
        (([reward], [math.nan]), "positive"),
        (([reward], [1.0], "min"), "no weights"),
        (([reward], None, "median"), "'median'.*'product', 'mean', 'min', 'mixture'"),
    ]:
        with pytest.raises(OptionError, match=message):
            Ensemble(*arguments)
    with pytest.raises(RewardError, match="cannot be called"):
        Ensemble([reward, 0.5])
    with pytest.raises(RewardError, match="shape"):
        Ensemble([reward, lambda state: torch.zeros(7)])(state)


@pytest.mark.parametrize("exponent", [0, -1.0, math.inf, math.nan, True, "2", torch.tensor(2.0)])
def test_what_is_no_power(exponent):
    with pytest.raises(OptionError, match="positive, finite"):
        table(*ONE) ** exponent


@pytest.mark.parametrize("error", [-0.1, 1.1, math.nan, None, True])
def test_what_is_no_error_rate(error):
    with pytest.raises(OptionError, match=r"false_reject=.*\[0, 1\]"):
        table(*ONE).with_error(0.1, error)
    with pytest.raises(OptionError, match="false_accept"):
        table(*ONE).with_error(error)


def test_what_is_no_calibration():
    with pytest.raises(OptionError, match="no calibration"):
        table(*ONE).calibrated(2.0)
    with pytest.raises(RewardError, match="cannot be called"):
        Power(0.5, 2)


def expressions(reward):
    return [
        reward**0.5,
        reward.with_error(0.05, 0.1),
        reward.calibrated(PlattScaling(slope=2.0, intercept=-1.0)),
        Ensemble([reward, reward**2], how="min"),
        Ensemble([reward, reward], weights=[1, 2], how="mixture"),
    ]


def test_equal_by_content():
    reward, another = table(*ONE), table(*ONE)
    made, again = expressions(reward), expressions(reward)
    assert made == again
    assert len({*made, *again}) == len(made)
    assert all(isinstance(one, RewardModel) for one in made)
    assert expressions(another) != made
    assert reward**0.5 != reward**0.6
    assert reward.with_error(0.1) != reward.with_error(0.2)
    assert Ensemble([reward, another]) != Ensemble([another, reward])


def test_they_read_as_they_were_written():
    class Named(FunctionReward):
        def __repr__(self):
            return "r"

    r = Named(lambda text: 0.5)
    assert repr(r**0.5) == "r ** 0.5"
    assert repr((r**2).with_error(0.05)) == "(r ** 2).with_error(false_accept=0.05, false_reject=0.0)"
    assert repr(r.with_error(0.05) ** 2) == "r.with_error(false_accept=0.05, false_reject=0.0) ** 2"
    scaled = r.calibrated(PlattScaling(slope=2, intercept=-1))
    assert repr(scaled) == "r.calibrated(PlattScaling(slope=2.0, intercept=-1.0))"
    assert repr(Ensemble([r**2, r], [1, 3], "mean")) == "Ensemble([r ** 2, r], weights=[1.0, 3.0], how='mean')"
    assert repr(Ensemble([r])) == "Ensemble([r], how='product')"


def test_plain_functions_compose_too(state):
    def even(state):
        return torch.zeros(state.batch_shape)

    composed = WithError(Power(even, 2), 0.1, 0.1)
    assert composed == WithError(Power(even, 2), 0.1, 0.1)
    assert composed(state).sigmoid().tolist() == [[pytest.approx(0.25 * 0.9 + 0.75 * 0.1)] * 2] * 2
    assert Calibrated(even, PlattScaling(slope=1, intercept=1))(state).tolist() == [[1.0, 1.0]] * 2


def test_made_anew_they_ask_nothing_anew(state):
    asked = []
    reward = FunctionReward(lambda text: asked.append(text) or 0.5)
    with run_scope():
        for _ in range(3):
            (reward**2).with_error(0.1)(state)
            Ensemble([reward, reward**0.5])(state)
    assert sorted(asked) == sorted(TEXTS)


def program(lm, reward, power=None):
    def reason():
        state = lm.prompt("")
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            if power is None:
                accept(f"accept_{t}", reward(), state)
            else:
                accept(f"accept_{t}", reward(), state, inverse_temperature=power)
        return state

    return reason


def log_prob(model):
    pyro.set_rng_seed(3)
    with pyro.plate("particles", 64):
        return poutine.trace(model).get_trace().log_prob_sum().item()


def test_a_power_is_the_inverse_temperature_and_is_recognised_when_made_anew(lm):
    """Made in each step anew: rows that have finished would else be judged again, and the sums would differ."""
    reward = FunctionReward(lambda text: 0.9 if text.endswith("a") else 0.3)
    once = reward**0.7
    made_once, made_anew = log_prob(program(lm, lambda: once)), log_prob(program(lm, lambda: reward**0.7))
    assert made_anew == made_once
    assert log_prob(program(lm, lambda: reward, power=0.7)) == pytest.approx(made_once, rel=1e-12)


def test_the_error_keeps_what_a_hard_verifier_would_kill(lm):
    """Against the exact evidence: 0.5 is what a text with a "b" weighs at each step, instead of 0."""
    hard = FunctionReward(lambda text: float("b" not in text))
    smc = SMC(program(lm, lambda: hard.with_error(0.5)), num_particles=500, num_runs=8, progress=False)
    estimates = smc.run().log_evidence.exp()
    exact = exact_evidence(bad_factor=0.5)
    assert exact - exact_evidence(bad_factor=0.0) > 0.1
    # False alarm about 1 in 1000: |t| > 5.4 with 7 degrees of freedom.
    assert abs(estimates.mean().item() - exact) < 5.4 * (estimates.std() / math.sqrt(8)).item()


def exact_evidence(bad_factor, steps=3, good=True):
    """Expected product of factors; a text that has ended gets no more, one with a "b" gets the bad one each step."""
    if steps == 0:
        return 1.0

    def after(still_good, ended):
        factor = 1.0 if still_good else bad_factor
        return factor * (1.0 if ended else exact_evidence(bad_factor, steps - 1, still_good))

    return (after(good, False) + 2 * after(False, False) + after(good, True)) / 4
