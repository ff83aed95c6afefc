"""Distributions of many particles, each by itself, in one batch of the model and one of the reward."""

import pyro
import pytest
import torch

from pyro_llm.distributions import LLM, Acceptance, NextToken
from pyro_llm.lm import PAD
from pyro_llm.rewards import FunctionReward

EOS = 5


def test_one_batch_draws_as_an_expanded_distribution_does(lm):
    step = LLM(lm, lm.prompt(""), stop="b", max_tokens=3)
    pyro.set_rng_seed(2)
    expected = step.expand([6]).sample()
    pyro.set_rng_seed(2)
    values = LLM.sample_together([LLM(lm, lm.prompt(""), stop="b", max_tokens=3) for _ in range(6)])
    assert torch.stack(values).equal(expected)


def test_a_batch_for_each_law(lm):
    start = lm.prompt("")
    longer = start.append(torch.tensor([[0, 1], [EOS, PAD]]))
    done = start.append(torch.tensor([EOS]))
    laws = [{"max_tokens": 2}, {"max_tokens": 3}, {"max_tokens": 2}, {"max_tokens": 2, "top_k": 1}, {"max_tokens": 2}]
    states = [start, start, longer, longer, done]
    distributions = [LLM(lm, state, **law) for state, law in zip(states, laws, strict=True)]
    values = LLM.sample_together(distributions)
    assert lm.requests == [("sample", 2), ("sample", 1), ("sample", 1)]
    assert [tuple(value.shape) for value in values] == [(2,), (3,), (2, 2), (2, 2), (2,)]
    assert (values[2][1] == PAD).all()
    assert (values[4] == PAD).all()
    for distribution, value in zip(distributions, values, strict=True):
        kept = distribution.log_prob(value)
        assert lm.requests[-1][0] == "sample"
        torch.testing.assert_close(LLM(lm, distribution.state, **vars_of(distribution)).log_prob(value.clone()), kept)
        lm.requests.append(("sample", 0))


def vars_of(distribution):
    return {"max_tokens": distribution.decoding.max_tokens, "top_k": distribution.decoding.top_k}


def test_next_tokens_together(lm):
    states = [lm.prompt("").append(torch.tensor([id])) for id in (0, 1, 2, EOS)]
    values = NextToken.sample_together([NextToken(lm, state, top_k=1) for state in states])
    assert [value.shape for value in values] == [()] * 4
    for state, value in zip(states[:3], values, strict=False):
        assert value == NextToken(lm, state).log_prob(torch.arange(6)).argmax()
    assert values[3] == PAD


def test_rewards_together(lm):
    asked = []

    def count(state):
        asked.append(tuple(state.batch_shape))
        return state.lengths.double()

    plain = FunctionReward(lambda text: 0.25)
    states = [lm.prompt("").append(torch.tensor(tokens)) for tokens in ([0], [1, 2], [3, 0, 0])]
    emissions = [Acceptance(count, state) for state in states] + [Acceptance(plain, states[0])]
    log_probs = Acceptance.log_prob_together(emissions, [torch.tensor(1.0)] * 4)
    assert asked == [(3,)]
    expected = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).sigmoid()
    torch.testing.assert_close(torch.stack(log_probs[:3]).exp(), expected)
    assert log_probs[3].exp().item() == pytest.approx(0.25)
    assert [emission.log_prob(torch.tensor(1.0)) for emission in emissions] == log_probs
    assert asked == [(3,)]


def test_a_lineage_has_one_session_outside_a_run_too(lm, monkeypatch):
    sessions, open_session = [], lm.session
    monkeypatch.setattr(lm, "session", lambda: sessions.append(open_session()) or sessions[-1])
    state = lm.prompt("")
    for _ in range(3):
        state = state.append(LLM(lm, state, max_tokens=1).expand([4]).sample())
    assert len(sessions) == 1
