"""`NextToken` against the table, and through Pyro's exact enumeration against the enumerated evidence."""

import pickle

import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate

import pyro_llm
from pyro_llm.distributions import NextToken
from pyro_llm.lm import PAD
from pyro_llm.rewards import FunctionReward

EOS = 5


@pytest.mark.parametrize("law", [{}, {"temperature": 0.5}, {"top_k": 3}, {"temperature": 2.0, "top_p": 0.7}], ids=str)
def test_law(lm, oracle, law):
    state = lm.prompt("").append(torch.tensor([[0, PAD], [2, 3], [1, EOS]]))
    token = NextToken(lm, state, **law)
    values = token.enumerate_support()
    assert values.shape == (7, 3)
    probability = token.log_prob(values).exp()
    assert (probability.sum(0) - 1).abs().max() < 1e-12
    for row, before in enumerate([(0,), (2, 3)]):
        expected = oracle(**law).next_token(before)
        torch.testing.assert_close(
            probability[:, row],
            torch.tensor([0.0, *(expected.get(id, 0.0) for id in range(6))], dtype=torch.float64),
            rtol=1e-12,
            atol=0,
        )
    assert probability[:, 2].tolist() == [1.0, 0, 0, 0, 0, 0, 0]


def test_sample_keeps_its_log_prob_and_leaves_out_finished_rows(lm):
    state = lm.prompt("").append(torch.tensor([[0, PAD], [2, 3], [1, EOS]]))
    token = NextToken(lm, state, temperature=0.7)
    value = token.sample((4,))
    assert value.shape == (4, 3)
    assert (value[:, 2] == PAD).all()
    assert (value[:, :2] != PAD).all()
    log_prob = token.log_prob(value)
    assert lm.requests == [("sample", 8)]
    torch.testing.assert_close(token.log_prob(value.clone()), log_prob, rtol=1e-12, atol=0)
    assert lm.requests == [("sample", 8), ("next_log_probs", 2)]


def test_lazy(lm):
    token = pickle.loads(pickle.dumps(NextToken(lm, lm.prompt("")).expand([3, 2])))
    assert token.batch_shape == (3, 2)
    assert token.event_shape == ()
    repr(token), token.support, token.enumerate_support(expand=False)
    assert lm.requests == token.lm.requests == []


def test_pyro_enumerates_a_program_exactly(lm, oracle):
    reward = FunctionReward(lambda text: 0.2 + 0.15 * text.count("a") / (1 + text.count("b")))

    @config_enumerate
    def program():
        state = lm.prompt("")
        for t in range(3):
            state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state, top_p=0.8)))
            pyro_llm.accept(f"accept_{t}", reward, state)

    exact = 0.0
    for step, p in oracle(top_p=0.8, max_tokens=3).steps().items():
        for length in range(1, len(step) + 1):  # a text that has ended gets no further factors
            p *= reward.fn(lm.decode(step[:length]))
        exact += p
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(program, lambda: None)
    assert -loss == pytest.approx(torch.tensor(exact).log().item(), rel=1e-6)


def test_bad_input(lm):
    with pytest.raises(ValueError, match="temperature"):
        NextToken(lm, lm.prompt(""), temperature=-1.0)
    with pytest.raises(ValueError, match="within the support"):
        NextToken(lm, lm.prompt("")).log_prob(torch.tensor(6))
    unchecked = NextToken(lm, lm.prompt(""), validate_args=False)
    assert unchecked.log_prob(torch.tensor([6, -2, PAD])).tolist() == [-torch.inf] * 3
