"""Markov chains that are healthy are not called ill, and those that are not are, whatever their sweeps keep."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import convergence
from pyro_llm.distributions import LLM, accept
from pyro_llm.infer import ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

SEEDS = 50
MEAN, VARIANCE = 0.5, 0.5
"""Of x ~ N(0, 1), given that y ~ N(x, 1) is 1."""


def normal():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))


@pytest.mark.parametrize("keep", ["draw", "population"])
def test_healthy_chains_are_healthy(keep):
    """Of 50 sets of four chains whose sweeps are all but independent, at most two are said to disagree.

    Null: the threshold is exceeded by independent draws in 1 set of 1,000, in 3 of 1,000 since R-hat is the higher of
    two (of ranks, and folded). That more than two of 50 exceed it has a probability of 0.0005. A threshold that takes
    all particles of a population for draws is exceeded by nearly all.

    The squared error of the mean of x, in units of its posterior variance over the ESS, is 1 on average: a sum of 50
    of them is chi-squared, below 85 but once in 700. Were the ESS that of the populations' means alone, 80 and less,
    the sum would be about 1; an ESS that is twice too large doubles it.
    """
    alarms, errors, ess = 0, [], []
    for seed in range(SEEDS):
        pyro.set_rng_seed(seed)
        posterior = ParticleGibbs(normal, 40, 20, num_chains=4, keep=keep).run()
        found = posterior.diagnose()
        alarms += "chains-disagree" in found.names
        mean = (posterior.samples["x"] * posterior.log_weights.exp()).sum(1).mean()
        ess.append(found.figures["ESS of x"])
        errors.append(float((mean - MEAN) ** 2 / VARIANCE * ess[-1]))
        if keep == "population":
            assert found.names == []
    assert alarms <= 2
    assert 20 < sum(errors) < 85
    draws = 4 * 20  # or populations of 40
    low, high = (0.6, 1.5) if keep == "draw" else (20, 60)
    assert low * draws < sorted(ess)[SEEDS // 2] < high * draws


@pytest.mark.parametrize("keep", ["draw", "population"])
def test_chains_apart_are_found(keep):
    """Two modes far from each other, each chain in one: of a site beside a text, and of one outside all plates."""
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], 2)
    reward = FunctionReward(lambda text: 0.1 + 0.8 * text.count("a") / (1 + len(text)))

    def writes():
        m = pyro.sample("m", dist.Normal(0.0, 5.0))
        pyro.sample("o", dist.Normal(m.abs(), 0.01), obs=torch.tensor(4.0))
        state = lm.prompt("q")
        state = state.append(pyro.sample("step", LLM(lm, state, max_tokens=1)))
        accept("accept", reward, state)
        return state

    def in_plates():
        m = pyro.sample("m", dist.Normal(0.0, 5.0))
        with pyro.plate("data", 3):
            pyro.sample("o", dist.Normal(m.abs(), 0.02), obs=torch.full((3,), 4.0))

    for model, nesting in ((writes, 0), (in_plates, 1)):
        pyro.set_rng_seed(0)
        chains = ParticleGibbs(model, 2, 40, num_chains=4, max_plate_nesting=nesting, keep=keep).run()
        positive = ((chains.samples["m"] > 0) * chains.log_weights.exp()).sum(1)
        assert float(positive.max() - positive.min()) > 0.5  # the chains are apart
        assert convergence(chains)["m"].r_hat > 1.5
        found = chains.diagnose()
        assert found.figures["R-hat of m"] == convergence(chains)["m"].r_hat
        finding = next(finding for finding in found if finding.name == "chains-disagree")
        assert finding.severity == "serious"
        assert ("40 independent sweeps" if keep == "population" else "40 independent draws") in finding.what


def test_what_cannot_be_compared_is_noted():
    def found(num_chains, num_iterations):
        pyro.set_rng_seed(0)
        chains = ParticleGibbs(normal, 20, num_iterations, num_chains=num_chains).run()
        return [(finding.name, finding.severity, finding.figure) for finding in chains.diagnose()]

    assert found(2, 10) == [("few-chains", "note", 2)]
    assert found(3, 10) == [("few-chains", "note", 3)]
    assert found(4, 3) == [("short-chains", "note", 3)]
    assert "few-chains" not in [name for name, *_ in found(4, 20)]
