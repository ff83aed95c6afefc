"""Randomness enumerated rather than sampled: the real code is run once for each outcome of its random choices.

So expectations over all that may happen are sums, and are compared to 1e-12: no seed, no null, no false alarm. What is
replaced is only where uniforms come from: tokens and ancestors (of multinomial resampling) are drawn by the real code,
from a uniform in the middle of the interval of the outcome that is to come.
"""

import itertools
import math

import pytest
import torch

from pyro_llm.infer import SMC
from pyro_llm.lm import keyed
from pyro_llm.ops import resampling
from pyro_llm.ops.weights import normalise


class Branches:
    """Walks the tree of a procedure's random choices, depth first."""

    def __init__(self):
        self._script, self._made, self.probability = (), [], 1.0

    def choose(self, probabilities):
        """The index of an outcome of positive probability."""
        possible = [index for index, probability in enumerate(probabilities) if probability > 0]
        depth = len(self._made)
        pick = self._script[depth] if depth < len(self._script) else 0
        self._made.append((pick, len(possible)))
        self.probability *= probabilities[possible[pick]]
        return possible[pick]

    def walk(self, run):
        """Run it for every branch; yields the branch's probability and what `run` returned."""
        scripts = [()]
        while scripts:
            self._script, self._made, self.probability = scripts.pop(), [], 1.0
            result = run()
            yield self.probability, result
            picks = tuple(pick for pick, _ in self._made)
            for depth in range(len(self._script), len(picks)):
                scripts += [(*picks[:depth], other) for other in range(1, self._made[depth][1])]


@pytest.fixture
def branches(monkeypatch):
    walker, real_draw = Branches(), keyed.draw

    def draw(log_probs, uniform):
        mass = log_probs.double().exp()
        tokens = [walker.choose((row / row.sum()).tolist()) for row in mass]
        chosen = torch.tensor(tokens).unsqueeze(-1)
        middle = (mass.cumsum(-1) - mass / 2).gather(-1, chosen).squeeze(-1) / mass.sum(-1)
        assert real_draw(log_probs, middle).tolist() == tokens
        return chosen.squeeze(-1)

    real_multinomial = resampling.RESAMPLING_SCHEMES["multinomial"]

    def multinomial(log_weights, num_offspring, generator=None):
        weights = normalise(log_weights).exp()
        ancestors = torch.tensor([[walker.choose(row) for _ in range(num_offspring)] for row in weights.tolist()])
        middles = (weights.cumsum(-1) - weights / 2).gather(-1, ancestors)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "rand", lambda *shape, **options: middles)
            return real_multinomial(log_weights, num_offspring, generator)

    for module in ("lm.drawing", "distributions.tilted_next_token"):
        monkeypatch.setattr(f"pyro_llm.{module}.draw", draw)
    monkeypatch.setitem(resampling.RESAMPLING_SCHEMES, "multinomial", multinomial)
    return walker


@pytest.fixture
def assert_exact(branches):
    r"""Asserts that SMC is right for a target given by enumeration, on average over all that may happen.

    For any number of particles and any resampling rule, $E[\hat Z \sum_n W_n f(x_n)] = \sum_x \gamma(x) f(x)$ for
    every f; f = 1 is the unbiasedness of the evidence.
    """

    def check(program, target, num_particles, ess_threshold, particles="vectorized"):
        """`target` maps the rows of tokens that a program may return to their unnormalised probability."""
        options = {"ess_threshold": ess_threshold, "resampling": "multinomial", "particles": particles}
        smc = SMC(program, num_particles, progress=False, **options)
        measure, total = dict.fromkeys(target, 0.0), 0.0
        for probability, posterior in branches.walk(smc.run):
            total += probability
            evidence = posterior.log_evidence[0].exp().item()
            weights = posterior.log_weights[0].exp().tolist()
            for row, weight in zip(posterior.returns.tokens[0].tolist(), weights, strict=True):
                tokens = tuple(itertools.takewhile(lambda token: token >= 0, row))
                if weight:
                    measure[tokens] = measure.get(tokens, 0.0) + probability * evidence * weight
        assert math.isclose(total, 1.0, rel_tol=1e-12)
        assert sum(measure.values()) == pytest.approx(sum(target.values()), rel=1e-12)
        for tokens, mass in measure.items():
            assert mass == pytest.approx(target.get(tokens, 0.0), rel=1e-11, abs=1e-14), tokens

    return check
