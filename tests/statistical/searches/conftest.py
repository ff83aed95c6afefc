"""A language model with few texts, the law of each, and the decisions of single runs."""

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from pyro_llm.infer import Posterior, Searched, StepStats
from pyro_llm.infer.readings import Texts
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import Cost

ROWS = {(): [0.5, 0.3, 0.2], (0,): [0.3, 0.3, 0.4], (1,): [0.6, 0.2, 0.2]}
REWARDS = {"": 0.1, "a": 0.7, "b": 0.4, "aa": 0.5, "ab": 0.9, "ba": 0.8, "bb": 0.3}
FALSE_ALARM = 1e-4


@pytest.fixture
def lm():
    return TableLM(lambda tokens: ROWS[tokens[-1:]], ["a", "b", "."], eos_token_id=2)


@pytest.fixture
def model(lm):
    """At most two steps of a token each, the reward of each prefix as its factor."""
    return ReasoningSSM(lm, FunctionReward(REWARDS.__getitem__), max_steps=2, stop=None, max_tokens=1)


@pytest.fixture
def law(lm):
    """The probability of each text."""
    probabilities = {}
    for tokens, log_prob in lm.enumerate(2):
        text = lm.decode(tokens)
        probabilities[text] = probabilities.get(text, 0.0) + math.exp(log_prob)
    return probabilities


@pytest.fixture
def law_of_decisions(law):
    """The law of a decision, from all N-tuples of independent texts: `decide` maps a tuple of texts to it."""

    def compute(size, decide):
        decisions = Counter()
        for texts in product(law, repeat=size):
            decisions[decide(texts)] += math.prod(law[text] for text in texts)
        assert sum(decisions.values()) == pytest.approx(1.0)
        return decisions

    return compute


@pytest.fixture
def decisions_by_run():
    """The decision of each run, as if it were alone."""

    def decide(posterior, fn=None):
        shape = (1, posterior.num_particles)
        nothing, scores = torch.zeros(shape), posterior.searched.scores
        decided = []
        for run in range(posterior.num_runs):
            alone = Posterior(
                samples={},
                returns=None,
                log_weights=None,
                log_evidence=None,
                log_prior=nothing,
                log_likelihood=nothing,
                stats=StepStats.empty(*shape),
                observed={},
                cost=Cost(),
                settings={},
                written=Texts("", posterior.texts[run][None], posterior.written.lengths[run][None]),
                searched=Searched(posterior.searched.decides_by, None if scores is None else scores[run][None]),
            )
            decided.append(alone.decision(fn))
        return decided

    return decide


@pytest.fixture
def assert_law():
    """Pearson's test that independent values have a law; fails by accident with probability 1e-4."""

    def check(values, law):
        counts = Counter(values)
        assert set(counts) <= {value for value, probability in law.items() if probability > 0}
        keys = [value for value, probability in law.items() if probability > 0]
        expected = np.array([law[key] for key in keys]) * len(values)
        assert expected.min() > 5, "too few values for a chi-square test"
        if len(keys) > 1:
            found = chisquare([counts[key] for key in keys], expected * len(values) / expected.sum())
            assert found.pvalue > FALSE_ALARM, [(key, counts[key], n) for key, n in zip(keys, expected, strict=True)]

    return check
