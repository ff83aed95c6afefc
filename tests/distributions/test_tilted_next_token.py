"""Tilted next tokens and the model's own: which law a kept log-probability belongs to."""

import pyro
import pytest
import torch

from pyro_llm.distributions import ConstrainedNextToken, NextToken, PoweredNextToken
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM

P = [0.5, 0.3, 0.2]
ALLOWED = torch.tensor([True, True, False])


@pytest.fixture
def lm():
    return TableLM(lambda tokens: P, ["a", "b", "."], eos_token_id=2)


def laws(lm, state):
    powers = {alpha: torch.tensor(P, dtype=torch.float64) ** alpha for alpha in (1.0, 2.0)}
    return {
        "model": (NextToken(lm, state), powers[1.0]),
        "masked": (ConstrainedNextToken(lm, state, ALLOWED), powers[1.0] * ALLOWED),
        "masked otherwise": (ConstrainedNextToken(lm, state, ~ALLOWED), powers[1.0] * ~ALLOWED),
        "power": (PoweredNextToken(lm, state, 2.0), powers[2.0]),
        "other power": (PoweredNextToken(lm, state, 1.0), powers[1.0]),
    }


@pytest.mark.parametrize("drawn_from", ["model", "masked", "masked otherwise", "power", "other power"])
def test_a_draw_of_one_law_is_scored_by_each(drawn_from, lm):
    """What is kept of a draw is of the law that drew it, and no other takes it for its own."""
    state = lm.prompt("").expand((50,))
    torch.manual_seed(0)
    value = laws(lm, state)[drawn_from][0].sample()
    for law, weights in laws(lm, state).values():
        expected = (weights / weights.sum())[value]
        torch.testing.assert_close(law.log_prob(value).exp(), expected, rtol=1e-12, atol=0)


def test_normalisers_of_a_draw_of_another_law(lm):
    state = lm.prompt("").expand((5,))
    value = NextToken(lm, state).sample()
    for law, weights in list(laws(lm, state).values())[1:]:
        assert law.normaliser(value).log_factor.exp().tolist() == pytest.approx([weights.sum().item()] * 5)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
def test_a_tilted_law_as_the_proposal_of_the_models_own(particles, lm):
    """The proposal is optimal for the factor, so each particle weighs the evidence, the allowed mass, exactly."""

    def program():
        state = lm.prompt("")
        proposal = ConstrainedNextToken(lm, state, ALLOWED)
        token = pyro.sample("token", NextToken(lm, state), infer={"proposal": proposal})
        pyro.factor("allowed", torch.where(ALLOWED[token], 0.0, -torch.inf))

    pyro.set_rng_seed(0)
    posterior = SMC(program, 4, particles=particles, progress=False).run()
    assert posterior.log_evidence.exp().item() == pytest.approx(0.8, rel=1e-12)
    assert posterior.ess().item() == pytest.approx(4.0)


def test_a_power_as_the_proposal_is_weighed_by_its_ratio(lm):
    def program():
        state = lm.prompt("")
        proposal = PoweredNextToken(lm, state, 2.0)
        token = pyro.sample("token", NextToken(lm, state), infer={"proposal": proposal})
        pyro.factor("nothing", torch.zeros(()))
        return token

    pyro.set_rng_seed(0)
    posterior = SMC(program, 64, ess_threshold=0, progress=False).run()
    tokens = posterior.returns[0]
    p = torch.tensor(P, dtype=torch.float64)
    ratios = p * (p**2).sum() / p**2
    assert posterior.log_evidence.exp().item() == pytest.approx(ratios[tokens].mean().item(), rel=1e-12)
    torch.testing.assert_close(posterior.log_weights[0].exp(), ratios[tokens] / ratios[tokens].sum())
