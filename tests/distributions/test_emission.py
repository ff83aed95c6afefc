"""The factors of `accept`, by hand; lazy, absorbing, differentiable in the inverse temperature, checked."""

import math

import pyro
import pyro.poutine as poutine
import pytest
import torch

import pyro_llm
from pyro_llm.distributions import LLM, EmissionFactor
from pyro_llm.errors import OptionError, RewardError
from pyro_llm.infer import SMC, Importance
from pyro_llm.lm import PAD, TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import run_scope

EOS = 5
REWARDS = {"a": 0.5, "ab": 0.25, "aba": 0.75, "b": 0.8, "bb": 0.4, "c": 0.9}


class Asked:
    """A plain reward, which remembers nothing, and counts the batches that it is asked for."""

    def __init__(self):
        self.batches = []

    def __call__(self, state):
        self.batches.append(tuple(state.batch_shape))
        return torch.tensor([REWARDS[text] for text in state.texts.reshape(-1)]).logit().reshape(state.batch_shape)


def steps(lm, reward, emission, beta=1.0):
    """Three texts: "a", "ab", "aba"; "b", which rests once, "bb"; "c", which ends at once."""
    state = lm.prompt("").append(torch.tensor([[0], [1], [2]]))
    pyro_llm.accept("first", reward, state, emission, beta)
    state = state.append(torch.tensor([[1], [PAD], [PAD]]))
    pyro_llm.accept("second", reward, state, emission, beta)
    state = state.append(torch.tensor([[0], [1], [PAD]]))
    pyro_llm.accept("third", reward, state, emission, beta)


def factors_of(run):
    trace = poutine.trace(run).get_trace()
    trace.compute_log_prob()
    return {name: site["log_prob"].exp().tolist() for name, site in trace.nodes.items() if site["type"] == "sample"}


def odds(probability):
    return probability / (1 - probability)


EXPECTED = {
    "bernoulli": {"first": [0.5, 0.8, 0.9], "second": [0.25, 1, 1], "third": [0.75, 0.4, 1]},
    "potential": {"first": [0.5, 0.8, 0.9], "second": [0.25 / 0.5, 1, 1], "third": [0.75 / 0.25, 0.4 / 0.8, 1]},
    "odds": {"first": [1.0, odds(0.8), odds(0.9)], "second": [odds(0.25), 1, 1], "third": [odds(0.75), odds(0.4), 1]},
}


@pytest.mark.parametrize("reward", [Asked(), FunctionReward(REWARDS.get)], ids=["plain", "function"])
@pytest.mark.parametrize("beta", [1.0, 0.5, torch.tensor(2.0)], ids=str)
@pytest.mark.parametrize("emission", EXPECTED)
def test_factors(lm, reward, emission, beta):
    found = factors_of(lambda: steps(lm, reward, emission, beta))
    for name, factors in EXPECTED[emission].items():
        assert found[name] == pytest.approx([factor ** float(beta) for factor in factors], rel=1e-6)


def test_an_inverse_temperature_for_each_text(lm):
    beta = torch.tensor([0.5, 1.0, 3.0])
    found = factors_of(lambda: steps(lm, FunctionReward(REWARDS.get), "bernoulli", beta))
    assert found["first"] == pytest.approx([0.5**0.5, 0.8, 0.9**3])


def test_previous_scores_are_remembered_not_asked_again(lm):
    with run_scope() as scope:
        factors_of(lambda: steps(lm, FunctionReward(REWARDS.get), "potential"))
    assert scope.cost.reward_calls == len(REWARDS)
    plain = Asked()
    factors_of(lambda: steps(lm, plain, "potential"))
    assert plain.batches == [(3,), (2, 3), (2, 3)]  # both prefixes in one batch


def test_rows_that_were_never_judged_are_not_asked_about_the_empty_text(lm):
    reward = FunctionReward(REWARDS.get)
    states = [lm.prompt("").append(torch.tensor([token])) for token in (0, 1)]
    states[0].record_judgement(reward)
    both = states[0].stack(states).append(torch.tensor([[1], [1]]))
    factor = EmissionFactor(reward, both, "potential")  # `fn` knows no empty text
    assert factor.log_prob(factor.sample()).exp().tolist() == pytest.approx([0.5, 0.4])


def test_lazy(lm):
    reward = Asked()
    run = lambda: steps(lm, reward, "potential")  # noqa: E731
    trace = poutine.trace(run).get_trace()
    poutine.trace(poutine.replay(run, trace)).get_trace()
    state = lm.prompt("").append(torch.tensor([[0], [1], [2]]))
    factor = EmissionFactor(reward, state, "odds").expand([4, 3])
    repr(factor), factor.to_event(1), factor.sample()
    assert reward.batches == []
    assert factor.log_prob(factor.sample()).shape == (4, 3)
    factor.log_prob(factor.sample())
    assert reward.batches == [(3,)]


@pytest.mark.parametrize("emission", EXPECTED)
@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_replaying_after_resampling_scores_nothing_again(emission, particles):
    lm = TableLM(lambda tokens: [0.5, 0.5, 0.0], ["a", "b", "."], eos_token_id=2)
    asked = []

    def reward(state):
        asked.append(state.texts.size)
        return state.lengths.double() + 0.1 * (state.tokens == 0).sum(-1)

    model = ReasoningSSM(lm, reward, max_steps=4, stop=None, max_tokens=1, emission=emission)
    posterior = SMC(model, 6, ess_threshold=1.0, particles=particles, progress=False).run("")
    assert posterior.stats.resampled[0].sum() == 3
    assert asked == ([6, 12, 12, 12] if emission == "potential" else [6] * 4)


def test_a_reward_of_zero_is_the_end_and_no_nan(lm):
    reward = FunctionReward(lambda text: 0.0 if text == "a" else 0.5)
    found = factors_of(lambda: steps(lm, reward, "potential"))
    assert [found[name][0] for name in ("first", "second", "third")] == [0, 0, 1]
    assert [found[name][1] for name in ("first", "second", "third")] == [0.5, 1, 1]


def test_odds_of_a_certain_reward_are_refused(lm):
    with pytest.raises(RewardError, match="exactly 1, and its odds are infinite"):
        model = ReasoningSSM(lm, FunctionReward(lambda text: 1.0), stop=None, emission="odds")
        SMC(model, 2, progress=False).run("")
    found = factors_of(lambda: steps(lm, FunctionReward(lambda text: 1.0), "potential"))
    assert found["third"] == [1, 1, 1]


@pytest.mark.parametrize("emission", EXPECTED)
def test_gradients_flow_to_the_inverse_temperature(lm, emission):
    beta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    reward = FunctionReward(REWARDS.get)
    trace = poutine.trace(lambda: steps(lm, reward, emission, beta)).get_trace()
    (gradient,) = torch.autograd.grad(trace.log_prob_sum(), beta)
    exact = sum(math.log(factor) for factors in EXPECTED[emission].values() for factor in factors)
    assert gradient.item() == pytest.approx(exact, rel=1e-9)


def test_edges_of_the_program_are_kept(lm):
    reward = FunctionReward(lambda text: 0.5)

    def model():
        state = lm.prompt("")
        for t in range(2):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=2)))
            pyro_llm.accept(f"accept_{t}", reward, state, "potential")

    source = pyro.render_model(model).source
    for edge in ("step_0 -> accept_0", "step_0 -> accept_1", "step_1 -> accept_1"):
        assert edge in source


@pytest.mark.parametrize("emission", ["bernouli", None, "ODDS"])
def test_unknown_emission(lm, emission):
    with pytest.raises(OptionError, match=r"no emission .* 'bernoulli', 'potential', 'odds'"):
        ReasoningSSM(lm, FunctionReward(REWARDS.get), emission=emission)
    with pytest.raises(OptionError, match="no emission"):
        pyro_llm.accept("accepted", FunctionReward(REWARDS.get), lm.prompt(""), emission=emission)


@pytest.mark.parametrize("beta", [0, -1.0, math.inf, math.nan, True, "1", torch.tensor([1.0, 0.0])], ids=str)
def test_bad_inverse_temperature(lm, beta):
    with pytest.raises(OptionError, match=r"inverse_temperature=.* positive, finite"):
        pyro_llm.accept("accepted", FunctionReward(REWARDS.get), lm.prompt(""), inverse_temperature=beta)
    with pytest.raises(OptionError, match="inverse_temperature"):
        ReasoningSSM(lm, FunctionReward(REWARDS.get), inverse_temperature=beta)


def test_a_sampled_inverse_temperature(lm):
    """A particle's own inverse temperature: each weight is its own power of the reward."""
    reward = FunctionReward(lambda text: 0.3)

    def model():
        beta = pyro.sample("beta", pyro.distributions.Uniform(0.5, 2.0))
        state = lm.prompt("")
        state = state.append(pyro.sample("step", LLM(lm, state, max_tokens=2)))
        pyro_llm.accept("accepted", reward, state, inverse_temperature=beta)

    posterior = Importance(model, 50, progress=False).run()
    expected = posterior.samples["beta"].double() * math.log(0.3)
    torch.testing.assert_close(posterior.log_likelihood, expected, rtol=1e-6, atol=0)
