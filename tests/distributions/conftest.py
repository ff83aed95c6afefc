"""An enumerable language model, its law written down a second time in plain Python, and a count of what it is asked."""

import math

import numpy as np
import pytest
import torch

from pyro_llm.lm import PAD, TableLM

VOCABULARY = ["a", "b", "c", "ab", "ca", "<eos>"]
EOS = 5


def random_conditional(tokens):
    """Next-token probabilities that depend on the whole history; all positive, no two alike."""
    return np.random.default_rng([17, *tokens]).dirichlet(np.full(len(VOCABULARY), 2.0))


class CountingLM(TableLM):
    """A table that notes the number of rows of every request to sample, to score and for log-probabilities."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.requests = []

    def session(self):
        return CountingSession(super().session(), self.requests)


class CountingSession:
    def __init__(self, session, requests):
        self._session, self._requests = session, requests

    def sample(self, prefix, decoding, key):
        self._requests.append(("sample", len(prefix)))
        return self._session.sample(prefix, decoding, key)

    def score(self, prefix, continuation, decoding):
        self._requests.append(("score", len(prefix)))
        return self._session.score(prefix, continuation, decoding)

    def next_log_probs(self, prefix, decoding):
        self._requests.append(("next_log_probs", len(prefix)))
        return self._session.next_log_probs(prefix, decoding)


class Oracle:
    """The law of a step by its definition, token by token in Python floats, sharing no code with the package."""

    def __init__(self, conditional, temperature=1.0, top_p=1.0, top_k=0, stop=(), max_tokens=3):
        self.conditional, self.temperature, self.top_p, self.top_k = conditional, temperature, top_p, top_k
        self.stop, self.max_tokens = (stop,) if isinstance(stop, str) else stop, max_tokens

    def next_token(self, tokens):
        weights = [float(p) ** (1 / self.temperature) for p in self.conditional(tokens)]
        ranked = sorted(range(len(weights)), key=lambda id: -weights[id])
        if self.top_k:
            ranked = ranked[: self.top_k]
        total, kept, mass = sum(weights[id] for id in ranked), [], 0.0
        for id in ranked:
            if mass < self.top_p - 1e-9:
                kept.append(id)
            mass += weights[id] / total
        total = sum(weights[id] for id in kept)
        return {id: weights[id] / total for id in kept}

    def ended(self, step):
        text = "".join(VOCABULARY[id] for id in step if id != EOS)
        return step[-1:] == (EOS,) or len(step) == self.max_tokens or any(string in text for string in self.stop)

    def steps(self, before=(), step=()):
        """Every step that may follow `before`, with its probability."""
        if self.ended(step):
            return {step: 1.0}
        return {
            whole: p * rest
            for id, p in self.next_token((*before, *step)).items()
            for whole, rest in self.steps(before, (*step, id)).items()
        }


def pad(steps, max_tokens):
    """Steps as a value of `LLM`."""
    return torch.tensor([[*step, *[PAD] * (max_tokens - len(step))] for step in steps])


def log(p):
    return math.log(p) if p > 0 else -math.inf


@pytest.fixture
def lm():
    return CountingLM(random_conditional, VOCABULARY, eos_token_id=EOS, name="counting")


@pytest.fixture
def oracle():
    return lambda **options: Oracle(random_conditional, **options)


@pytest.fixture
def as_value():
    return pad
