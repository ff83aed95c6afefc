"""`Acceptance` and `accept`: lazy, in log-odds throughout, once for each prefix."""

import pickle
import re

import pyro
import pyro.poutine as poutine
import pytest
import torch

import pyro_llm
from pyro_llm.distributions import Acceptance
from pyro_llm.errors import RewardError
from pyro_llm.lm import PAD
from pyro_llm.rewards import Ensemble, FunctionReward

EOS = 5
ONE = torch.tensor(1.0)


class Given:
    """A reward with given log-odds that counts how often it is asked."""

    def __init__(self, log_odds):
        self.log_odds, self.calls = log_odds, 0

    def __call__(self, state):
        self.calls += 1
        return self.log_odds.expand(state.batch_shape)


def texts(lm, rows=((0, 1), (2, EOS), (4, PAD))):
    return lm.prompt("").append(torch.tensor(rows))


def test_log_prob_of_log_odds_that_no_probability_can_hold(lm):
    log_odds = torch.tensor([40.0, -800.0, torch.inf, -torch.inf, 0.0])
    emission = Acceptance(Given(log_odds), lm.prompt("").expand([5]))
    accepted, rejected = emission.log_prob(ONE), emission.log_prob(torch.tensor(0.0))
    assert accepted.dtype == rejected.dtype == torch.float32
    torch.testing.assert_close(accepted, torch.tensor([-4.2483543e-18, -800.0, 0.0, -torch.inf, -0.6931472]))
    torch.testing.assert_close(rejected, torch.tensor([-40.0, 0.0, -torch.inf, 0.0, -0.6931472]))
    assert accepted[0] < 0  # through a sigmoid it would be 0


def test_dtype_is_that_of_the_log_odds(lm):
    for dtype in (torch.float32, torch.float64):
        emission = Acceptance(Given(torch.tensor(1.5, dtype=dtype)), lm.prompt(""))
        assert emission.log_prob(ONE).dtype == emission.sample().dtype == dtype


def test_scores_only_when_asked_and_once(lm):
    reward = Given(torch.tensor([0.5, 1.0, -1.0]))
    emission = Acceptance(reward, texts(lm))
    wide = emission.expand([4, 3])
    repr(wide), wide.support, wide.enumerate_support(), wide.to_event(1), wide.mask(torch.tensor(False))
    pickle.dumps(wide)
    assert reward.calls == 0
    assert wide.log_prob(torch.ones(4, 3)).shape == (4, 3)
    assert emission.log_prob(ONE).shape == (3,)
    assert wide.logits.shape == wide.sample().shape == (4, 3)
    assert reward.calls == 1


def test_sample_frequencies(lm):
    # Null: Bernoulli with these log-odds; 4 standard errors; infinite log-odds are certain.
    log_odds = torch.tensor([2.0, -0.7, torch.inf, -torch.inf])
    draws = Acceptance(Given(log_odds), lm.prompt("").expand([4])).sample((20_000,))
    p = log_odds[:2].sigmoid()
    assert ((draws[:, :2].mean(0) - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()
    assert draws[:, 2].eq(1).all()
    assert draws[:, 3].eq(0).all()


def test_enumerated_support_is_normalised(lm):
    emission = Acceptance(Given(torch.tensor([0.3, -2.0, 5.0], dtype=torch.float64)), texts(lm))
    total = emission.log_prob(emission.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(total, torch.ones(3, dtype=torch.float64), rtol=1e-15, atol=0)
    with pytest.raises(ValueError, match="within the support"):
        emission.log_prob(torch.tensor(0.5))


def test_accept_is_an_observed_bernoulli(lm):
    reward = FunctionReward(lambda text: 0.25 if text.endswith("b") else 0.5)
    trace = poutine.trace(pyro_llm.accept).get_trace("accepted", reward, texts(lm))
    trace.compute_log_prob()
    site = trace.nodes["accepted"]
    assert site["is_observed"]
    torch.testing.assert_close(site["log_prob"].exp(), torch.tensor([0.25, 0.5, 0.5], dtype=torch.float64))


def test_a_prefix_is_judged_once_by_each_reward(lm):
    process, outcome = FunctionReward(lambda text: 0.5), FunctionReward(lambda text: 0.25)

    def program():
        state = texts(lm)
        pyro_llm.accept("first", process, state)
        state = state.append(torch.tensor([[0], [PAD], [EOS]]))  # the second text has ended before
        pyro_llm.accept("second", process, state)
        state = state.append(torch.tensor([[EOS], [PAD], [PAD]]))
        pyro_llm.accept("third", process, state)
        state = state.finish(torch.ones(3, dtype=torch.bool))
        pyro_llm.accept("fourth", process, state)
        pyro_llm.accept("outcome", outcome, state)

    factors = factors_of(program)
    assert factors["first"] == [0.5, 0.5, 0.5]
    assert factors["second"] == [0.5, 1.0, 0.5]
    assert factors["third"] == [0.5, 1.0, 1.0]
    assert factors["fourth"] == [1.0, 1.0, 1.0]
    assert factors["outcome"] == pytest.approx([0.25, 0.25, 0.25])


def test_a_program_that_runs_again_from_the_same_state_gets_the_same_factors(lm):
    reward, state = FunctionReward(lambda text: 0.5), texts(lm)
    for _ in range(2):
        assert factors_of(lambda: pyro_llm.accept("accepted", reward, state)) == {"accepted": [0.5, 0.5, 0.5]}


def factors_of(program):
    trace = poutine.trace(program).get_trace()
    trace.compute_log_prob()
    return {name: site["log_prob"].exp().tolist() for name, site in trace.nodes.items() if site["type"] == "sample"}


def test_a_plain_function_of_a_state_is_a_reward(lm):
    trace = poutine.trace(pyro_llm.accept).get_trace("accepted", lambda state: state.lengths.double(), texts(lm))
    trace.compute_log_prob()
    lengths = torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(trace.nodes["accepted"]["log_prob"].exp(), lengths.sigmoid())


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda state: state.lengths.double() * torch.nan, "NaN for the text 'ab'"),
        (lambda state: torch.zeros(2), r"shape \(2,\) for a state of batch shape \(3,\); .*'ab'"),
        (lambda state: 0.5, "returned 0.5; it must return log-odds"),
        (lambda state: state.lengths, "a tensor of torch.int64; it must return log-odds"),
    ],
)
def test_what_is_no_log_odds(lm, reward, message):
    emission = Acceptance(reward, texts(lm))
    with pytest.raises(RewardError, match=message):
        emission.log_prob(ONE)


@pytest.mark.parametrize(
    "of_text",
    [
        lambda text: text.count("a") / 4,
        lambda text: len(text) / 10,
        lambda text: float("a" in text),
        lambda text: float(re.search("a", text) is not None),
    ],
    ids=["method", "length", "contains", "pattern"],
)
def test_a_function_of_a_text_is_told_what_to_do(lm, of_text):
    with pytest.raises(RewardError, match=r"given a TextState.*wrap a function from a text.*FunctionReward"):
        Acceptance(of_text, texts(lm)).log_prob(ONE)
    with pytest.raises(RewardError, match="FunctionReward"):
        Acceptance(Ensemble([of_text, FunctionReward(lambda text: 0.5)]), texts(lm)).log_prob(ONE)


def test_errors_of_a_reward_itself_are_left_alone(lm):
    def broken(state):
        return state.lengths.double() + None

    with pytest.raises(TypeError, match="NoneType"):
        Acceptance(broken, texts(lm)).log_prob(ONE)


def test_nan_for_a_single_text(lm):
    with pytest.raises(RewardError, match="NaN for the text 'ab'"):
        Acceptance(Given(torch.tensor(torch.nan)), lm.prompt("").append(torch.tensor([0, 1]))).log_prob(ONE)


def test_what_is_no_reward(lm):
    with pytest.raises(RewardError, match="cannot be called"):
        pyro_llm.accept("accepted", 0.7, texts(lm))

    class Unhashable:
        __hash__ = None

        def __call__(self, state):
            return state.lengths.double()

    with pytest.raises(RewardError, match="cannot be hashed"):
        pyro_llm.accept("accepted", Unhashable(), texts(lm))


def test_replaying_scores_nothing(lm):
    reward = Given(torch.tensor(0.0))
    program = lambda: pyro_llm.accept("accepted", reward, texts(lm))  # noqa: E731
    trace = poutine.trace(program).get_trace()
    poutine.trace(poutine.replay(program, trace)).get_trace()
    pyro.infer.Predictive(program, num_samples=3)()
    assert reward.calls == 0
