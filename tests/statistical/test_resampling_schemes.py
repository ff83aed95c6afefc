"""The evidence is unbiased under every resampling scheme and every rule of when to resample."""

import math

import pyro
import pytest
import torch

from pyro_llm.distributions import NextToken, accept
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.ops.resampling import RESAMPLING_SCHEMES
from pyro_llm.rewards import FunctionReward

RUNS = 2_000
STEPS = 4
ROWS = {"": [0.5, 0.3, 0.2], "a": [0.2, 0.6, 0.2], "b": [0.3, 0.3, 0.4]}
VOCABULARY = ["a", "b", "<eos>"]
LM = TableLM(lambda tokens: ROWS[VOCABULARY[tokens[-1]] if tokens else ""], VOCABULARY, eos_token_id=2)


def acceptance(text):
    """Asymmetric, of the whole text, 0 for one text: some particles die."""
    return 0.0 if text == "bb" else 0.1 + 0.85 * ((3 * text.count("a") + 5 * text.count("b") + 2 * len(text)) % 7) / 7


REWARD = FunctionReward(acceptance)


def program():
    state = LM.prompt("")
    for t in range(STEPS):
        state = state.append_token(pyro.sample(f"token_{t}", NextToken(LM, state)))
        accept(f"accept_{t}", REWARD, state)
    return state


def enumerated():
    """Evidence, and the posterior probability of an `a` in the first place."""
    joint = {}
    for tokens, log_prob in LM.enumerate(STEPS):
        factors = [acceptance(LM.decode(tokens[:end])) for end in range(1, len(tokens) + 1)]
        joint[tokens] = math.exp(log_prob) * math.prod(factors)
    evidence = sum(joint.values())
    return evidence, sum(p for tokens, p in joint.items() if tokens[0] == 0) / evidence


EVIDENCE, FIRST_IS_A = enumerated()


def heaviest_has_most(log_weights):
    """A rule of the user's own: one particle has more than 0.6 of the weight."""
    return log_weights.softmax(-1).amax(-1) > 0.6


RULES = {
    "never": {"ess_threshold": 0},
    "adaptive": {"ess_threshold": 0.7},
    "always": {"ess_threshold": 1},
    "own": {"resample_when": heaviest_has_most},
}


CASES = [(scheme, rule) for scheme in RESAMPLING_SCHEMES for rule in RULES if rule != "never" or scheme == "systematic"]


@pytest.mark.filterwarnings("ignore::pyro_llm.errors.DeadRunWarning")
@pytest.mark.parametrize("num_particles", [1, 2, 5])
@pytest.mark.parametrize(("resampling", "rule"), CASES)
def test_evidence_is_unbiased(resampling, rule, num_particles, assert_mean, assert_posterior_mean):
    """Null: E[Z-hat] = Z, and Z-hat times a weighted average is unbiased. 2,000 runs; false alarms 1.3e-4 a case."""
    options = {"num_runs": RUNS, "resampling": resampling, "progress": False, **RULES[rule]}
    posterior = SMC(program, num_particles, **options).run()
    if rule == "never" or num_particles > 1:
        assert posterior.stats.resampled.any() == (rule != "never")
    assert_mean(posterior.log_evidence.exp(), EVIDENCE)
    assert_posterior_mean(posterior, posterior.samples["token_0"] == 0, FIRST_IS_A)
    sums = torch.from_numpy(posterior.stats.log_evidence_increment).sum(-1)
    torch.testing.assert_close(sums, posterior.log_evidence)
