"""A constant reward multiplies the evidence by a constant, exactly; what has no answer raises."""

import math

import pytest
import torch

from pyro_llm.errors import AllParticlesDeadError, RewardError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

STEPS = 4


def model(reward, **options):
    """Four steps of one token; no text ends before."""
    lm = TableLM(lambda tokens: [0.7, 0.3, 0.0], ["a", "b", "."], eos_token_id=2)
    return ReasoningSSM(lm, reward, max_steps=STEPS, stop=None, max_tokens=1, **options)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1.0])
@pytest.mark.parametrize("c", [0.9, 0.2, 1e-9])
def test_log_evidence_is_that_of_the_constants(c, ess_threshold, particles):
    """T log c; log c where the factors telescope; T times the log-odds: in every run, to rounding."""
    options = {"ess_threshold": ess_threshold, "particles": particles, "num_runs": 2, "progress": False}
    exact = {
        "bernoulli": STEPS * math.log(c),
        "potential": math.log(c),
        "odds": STEPS * (math.log(c) - math.log1p(-c)),
    }
    for emission, log_evidence in exact.items():
        for beta in (1.0, 0.3):
            program = model(FunctionReward(lambda text: c), emission=emission, inverse_temperature=beta)
            found = SMC(program, 3, **options).run("").log_evidence
            expected = torch.full((2,), beta * log_evidence, dtype=torch.float64)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("particles", ["vectorized", "scalar"])
@pytest.mark.parametrize("emission", ["bernoulli", "potential", "odds"])
def test_nobody_survives(emission, particles):
    """A reward of zero from the second step on: all particles are dead there, with no NaN on the way."""
    program = model(FunctionReward(lambda text: 0.5 if len(text) < 2 else 0.0), emission=emission)
    with pytest.raises(AllParticlesDeadError, match=r"(?s)step 2.*all 5 particles"):
        SMC(program, 5, particles=particles, progress=False).run("")


@pytest.mark.parametrize("emission", ["bernoulli", "potential", "odds"])
def test_a_reward_of_nan(emission):
    def reward(state):
        return torch.where(state.lengths == 2, torch.nan, 0.3).double()

    with pytest.raises(RewardError, match="NaN for the text"):
        SMC(model(reward, emission=emission), 5, progress=False).run("")
