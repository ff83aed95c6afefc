"""Proposals, twists, tempering and look-ahead change neither target nor evidence: every branch of the engine walked.

The engine runs on a program of binary values, with as many runs as its randomness has outcomes: in each run another
outcome is drawn. So expectations over the randomness are sums, and compared to 1e-12.
"""

import itertools
import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.errors import DeadRunWarning
from pyro_llm.handlers.twist import twist
from pyro_llm.infer import SMC, AdaptiveTempering
from pyro_llm.ops.resampling import RESAMPLING_SCHEMES, Resampled

NUM_PARTICLES = 2


def probability(path):
    """Of a 1 at the next step, asymmetric and dependent on the whole past."""
    return 0.2 + 0.6 * (sum((i + 2) * x for i, x in enumerate(path)) % 5) / 5


def proposed(path):
    return 0.55 - 0.4 * (sum((i + 1) * x for i, x in enumerate(path)) % 3) / 3


def factor(path, hard):
    if hard and path in ((1, 0), (0, 1, 1)):
        return 0.0
    return 0.05 + 0.9 * (sum((3 * i + 1) * x for i, x in enumerate(path, start=len(path))) % 7) / 7


def potential(path):
    """Of no meaning for the factors to come."""
    return 0.1 + 3 * (sum((2 * i + 1) * (1 - x) for i, x in enumerate(path)) % 4)


def table(function, past):
    """A function of the past, by particle."""
    values = [function(path) for path in itertools.product((0, 1), repeat=len(past))]
    code = sum((2**i * x.long() for i, x in enumerate(reversed(past))), start=torch.tensor(0))
    return torch.tensor(values, dtype=torch.float64)[code]


def program(num_steps, hard, proposals, twists):
    past = []
    for t in range(num_steps):
        proposal = (lambda prior, past=tuple(past): dist.Bernoulli(table(proposed, past))) if proposals else None
        law = dist.Bernoulli(table(probability, past))
        past = [*past, pyro.sample(f"x_{t}", law, infer={"proposal": proposal})]
        pyro.factor(f"g_{t}", table(lambda path: factor(path, hard), past).log())
        if twists:  # the last one, too
            twist(f"psi_{t}", lambda past=past: table(potential, past).log())
    return torch.stack(past, -1)


def look_ahead(name, distribution):
    return 2.0 * distribution.probs - 0.7 * int(name[-1])


class EveryOutcome:
    """A source of randomness whose r-th run draws the r-th outcome, and the probability with which it would."""

    def __init__(self, num_runs):
        self.probability = torch.ones(num_runs, dtype=torch.float64)
        self._digits = torch.arange(num_runs)
        self._calls = 0

    def choose(self, probabilities):
        """One choice in every run. `[R, K]` -> `[R]`."""
        chosen = self._digits % probabilities.shape[-1]
        self._digits = self._digits // probabilities.shape[-1]
        self.probability = self.probability * probabilities.gather(-1, chosen[:, None]).squeeze(-1)
        return chosen

    def ancestors(self, log_weights, num_offspring, generator=None):
        weights = log_weights.softmax(-1)
        return Resampled.equally_weighted(torch.stack([self.choose(weights) for _ in range(num_offspring)], -1))

    def values(self, distribution, sample_shape=()):
        """A Bernoulli value for every particle, or for the one whose turn it is."""
        if not distribution.batch_shape:
            run = self._calls // NUM_PARTICLES % self.probability.shape[0]
            self._calls += 1
            value, p = int(self._digits[run] % 2), distribution.probs.double()
            self._digits[run] = self._digits[run] // 2
            self.probability[run] *= p if value else 1 - p
            return torch.tensor(value).to(distribution.probs)
        ones = distribution.probs.double().reshape(self.probability.shape[0], NUM_PARTICLES)
        choices = [self.choose(torch.stack([1 - p, p], -1)) for p in ones.unbind(-1)]
        return torch.stack(choices, -1).to(distribution.probs).reshape(distribution.batch_shape)


def prior(path):
    ones = [probability(path[:t]) for t in range(len(path))]
    return math.prod(p if x else 1 - p for x, p in zip(path, ones, strict=True))


def likelihood(path, hard):
    return math.prod(factor(path[: t + 1], hard) for t in range(len(path)))


PLAIN = {"proposals": False, "twists": False}
TEMPERED = AdaptiveTempering(ess_target=0.9)
WAYS = {
    "plain": (PLAIN, {}),
    "proposals": ({"proposals": True, "twists": False}, {}),
    "twists": ({"proposals": False, "twists": True}, {}),
    "tempering": (PLAIN, {"tempering": TEMPERED}),
    "early tempering": (PLAIN, {"tempering": AdaptiveTempering(ess_target=0.99, num_steps=2)}),
    "look-ahead": (PLAIN, {"look_ahead": look_ahead}),
    "all": ({"proposals": True, "twists": True}, {"tempering": TEMPERED, "look_ahead": look_ahead}),
}


VECTORIZED = [("vectorized", 4, *case) for case in itertools.product(WAYS, [0.9, 1.0], [False, True])]


@pytest.mark.parametrize(
    ("particles", "num_steps", "way", "ess_threshold", "hard"), [*VECTORIZED, ("scalar", 2, "all", 0.9, False)]
)
def test_every_outcome(particles, num_steps, way, ess_threshold, hard, monkeypatch):
    arguments, options = WAYS[way]
    num_outcomes = 4 ** (2 * num_steps - 1)  # two values at each step, and two ancestors between steps
    outcomes = EveryOutcome(num_outcomes)
    monkeypatch.setitem(RESAMPLING_SCHEMES, "multinomial", outcomes.ancestors)
    monkeypatch.setattr(dist.Bernoulli, "sample", lambda self, shape=(): outcomes.values(self, shape), raising=False)
    monkeypatch.setattr(dist.Bernoulli, "__call__", lambda self: outcomes.values(self))
    smc = SMC(
        program,
        NUM_PARTICLES,
        num_runs=num_outcomes,
        particles=particles,
        ess_threshold=ess_threshold,
        resampling="multinomial",
        progress=False,
        **options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadRunWarning)
        posterior = smc.run(num_steps, hard, **arguments)
    assert posterior.stats.resampled[:, :-1].any(0).all() and not posterior.stats.resampled[:, -1].any()
    assert outcomes.probability.sum().item() == pytest.approx(1.0, abs=1e-12)
    paths = list(itertools.product((0, 1), repeat=num_steps))
    is_path = (posterior.returns[:, :, None] == torch.tensor(paths)).all(-1).double()
    estimates = (posterior.log_weights.exp()[..., None] * is_path).sum(1)
    evidence = posterior.log_evidence.exp()
    priors = torch.tensor([prior(path) for path in paths], dtype=torch.float64)
    likelihoods = torch.tensor([likelihood(path, hard) for path in paths], dtype=torch.float64)
    joint = (outcomes.probability * evidence) @ estimates
    torch.testing.assert_close(joint, priors * likelihoods, rtol=0, atol=1e-12)
    torch.testing.assert_close(outcomes.probability @ evidence, (priors * likelihoods).sum(), rtol=0, atol=1e-12)
    # What is reported of each particle is of the program, and not of what guided it.
    torch.testing.assert_close(posterior.log_prior.exp(), is_path @ priors)
    torch.testing.assert_close(posterior.log_likelihood.exp(), is_path @ likelihoods)
    increments = torch.from_numpy(posterior.stats.log_evidence_increment).sum(-1)
    torch.testing.assert_close(increments, posterior.log_evidence)
