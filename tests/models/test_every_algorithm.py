"""The same ready-made program under each algorithm, held to the enumerated posterior."""

import math
import re

import pyro
import pytest
import torch

from pyro_llm.infer import SMC, Importance, ParallelTempering, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.models import ConstrainedText, PowerText, ReasoningSSM
from pyro_llm.rewards import FunctionReward

ROWS = {(): [0.5, 0.3, 0.2], (0,): [0.2, 0.5, 0.3], (1,): [0.6, 0.1, 0.3]}
LM = TableLM(lambda tokens: ROWS[tokens[-1:]], ["a", "b", "."], eos_token_id=2)
REWARD = FunctionReward(lambda text: (1 + text.count("b")) / (2 + len(text)))
PATTERN = "(a|b)?b"
TOKENWISE = {"max_steps": 3, "stop": None, "max_tokens": 1}


def power(tokens, text, probability):
    return probability**2


def constrained(tokens, text, probability):
    return probability if tokens[-1] == 2 and re.fullmatch(PATTERN, text) else 0.0


def potential(tokens, text, probability):
    return probability * REWARD.fn(text)


CASES = {
    "power": (PowerText(LM, 2.0, proposal="tempered", **TOKENWISE), power),
    "constrained": (ConstrainedText(LM, PATTERN, max_tokens=3), constrained),
    "reasoning": (ReasoningSSM(LM, REWARD, emission="potential", **TOKENWISE), potential),
}
CHAINS = {"ess_threshold": 0.8, "warmup": 30, "progress": False}
ALGORITHMS = {
    "Importance": lambda model: Importance(model, 20, num_runs=400, progress=False),
    "SMC": lambda model: SMC(model, 20, num_runs=400, progress=False),
    "ParticleGibbs": lambda model: ParticleGibbs(model, 4, 8, num_chains=200, **CHAINS),
    "with ancestor sampling": lambda model: ParticleGibbs(
        model, 4, 8, num_chains=200, ancestor_sampling=True, **CHAINS
    ),
    "ParallelTempering": lambda model: ParallelTempering(
        model, 4, 8, num_chains=200, inverse_temperatures=[1, 0.4], **CHAINS
    ),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("case", CASES)
def test_texts_have_their_probabilities(case, algorithm):
    """Null: pooled over runs, each text has its posterior probability. 4.5 standard errors over runs, at most 15 texts
    in each of 15 cases: false alarms 2e-3. Chains are 30 iterations off their start, whose trace is far smaller.
    """
    model, weigh = CASES[case]
    weights: dict[str, float] = {}
    for tokens, log_prob in LM.enumerate(3):
        text = "".join("ab"[token] for token in tokens if token < 2)
        weights[text] = weights.get(text, 0.0) + weigh(tokens, text, math.exp(log_prob))
    exact = {text: weight / sum(weights.values()) for text, weight in weights.items() if weight}
    pyro.set_rng_seed(0)
    posterior = ALGORITHMS[algorithm](model).run("")
    assert {text for text, probability in posterior.marginal().items() if probability} <= set(exact)
    shares = torch.softmax(posterior.pooling, 0) * posterior.num_runs
    for text, probability in exact.items():
        if probability < 0.02:
            continue  # too few are seen for a normal approximation
        hits = torch.tensor([[found == text for found in row] for row in posterior.texts.tolist()])
        deviations = shares * ((posterior.log_weights.exp() * hits).sum(1) - probability)
        assert deviations.mean().abs() < 4.5 * deviations.std() / len(deviations) ** 0.5 + 1e-9, text
