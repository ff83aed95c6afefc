"""What entropic particle filtering estimates: nothing exactly, and a tempered law in the limit of many particles."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.infer import SMC, EntropicSMC

FACTORS = (0.05, 0.3, 0.9)
PRIOR = (0.5, 0.3, 0.2)


def two_steps():
    """A die, its factor, and something that comes next; what is selected is the die."""
    die = pyro.sample("die", dist.Categorical(torch.tensor(PRIOR)))
    pyro.factor("judged", torch.tensor(FACTORS).log()[die])
    return pyro.sample("next", dist.Normal(0.0, 1.0))


def walk():
    x = torch.tensor(0.0)
    for t in range(4):
        x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
        pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=torch.tensor(float(t)))


@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_without_annealing_it_draws_what_smc_draws(resampling):
    options = {"num_runs": 3, "resampling": resampling, "progress": False}
    pyro.set_rng_seed(1)
    smc = SMC(walk, 20, ess_threshold=1, **options).run()
    pyro.set_rng_seed(1)
    entropic = EntropicSMC(walk, 20, max_steps=4, early_phase=0, **options).run()
    assert (entropic.stats.inverse_temperature[:, :3] == 1).all()
    for name, values in smc.samples.items():
        assert torch.equal(values, entropic.samples[name])


def inverse_temperature(weights):
    """1 / (N / ESS * (1 - 1/8)), where ESS < 0.5 N; at the first of eight steps."""
    share = len(weights) * sum(w**2 for w in weights) / sum(weights) ** 2  # N / ESS
    return 1 / max(1.0, share * 7 / 8) if share > 2 else 1.0


def share_after(dice):
    """How often a multinomial draw from these dice is each face, by the annealed weights."""
    weights = [FACTORS[die] for die in dice]
    power = inverse_temperature(weights)
    shares = [weight**power for weight in weights]
    return [sum(s for s, die in zip(shares, dice, strict=True) if die == face) / sum(shares) for face in range(3)]


def test_the_law_of_few_particles_is_that_of_the_rule():
    """Null: with N = 4 each particle shows each face with the probability that all 3^4 populations give.

    Mean over 20,000 runs, 4 standard errors, three faces: false alarms 2e-4. It is not the posterior of the program,
    nor the law of the limit, which differ from it by 10 standard errors and more.
    """
    exact = torch.zeros(3, dtype=torch.float64)
    for dice in itertools.product(range(3), repeat=4):
        probability = torch.tensor(PRIOR).double()[list(dice)].prod()
        exact += probability * torch.tensor(share_after(dice), dtype=torch.float64)
    pyro.set_rng_seed(3)
    posterior = EntropicSMC(two_steps, 4, max_steps=8, resampling="multinomial", num_runs=20_000, progress=False).run()
    shares = torch.nn.functional.one_hot(posterior.samples["die"], 3).double().mean(1)
    error = shares.std(0) / 20_000**0.5
    assert ((shares.mean(0) - exact).abs() < 4 * error).all()
    unannealed = torch.tensor(PRIOR).double() * torch.tensor(FACTORS).double()
    assert ((unannealed / unannealed.sum() - exact).abs() > 10 * error).all()
    assert ((limit() - exact).abs() > 10 * error).any()


def limit():
    """p g^beta with the beta of an infinite population, whose ESS / N is (E g)^2 / E g^2."""
    prior, factors = torch.tensor(PRIOR).double(), torch.tensor(FACTORS).double()
    share = (prior * factors**2).sum() / (prior * factors).sum() ** 2
    power = 1 / (share * 7 / 8)
    assert share > 2 and power < 1
    law = prior * factors**power
    return law / law.sum()


def test_many_particles_have_the_tempered_law():
    """Null: consistency. 40,000 particles: each share's error is about sqrt(1 / 40,000) = 0.005; the bound is 0.02.

    The posterior of the program is off by more than that.
    """
    pyro.set_rng_seed(4)
    posterior = EntropicSMC(two_steps, 40_000, max_steps=8, progress=False).run()
    shares = torch.nn.functional.one_hot(posterior.samples["die"][0], 3).double().mean(0)
    assert (shares - limit()).abs().max() < 0.02
    unannealed = torch.tensor(PRIOR).double() * torch.tensor(FACTORS).double()
    assert (shares - unannealed / unannealed.sum()).abs().max() > 0.04


def test_an_estimate_made_of_its_factors_would_be_biased():
    """The mean of the annealed weights is no unbiased estimate of the tempered evidence: exact for N = 4."""
    exact = 0.0
    for dice in itertools.product(range(3), repeat=4):
        probability = torch.tensor(PRIOR).double()[list(dice)].prod().item()
        weights = [FACTORS[die] for die in dice]
        power = inverse_temperature(weights)
        exact += probability * sum(weight**power for weight in weights) / 4
    prior, factors = torch.tensor(PRIOR).double(), torch.tensor(FACTORS).double()
    share = (prior * factors**2).sum() / (prior * factors).sum() ** 2
    tempered = (prior * factors ** (1 / (share * 7 / 8))).sum().item()
    assert abs(exact - tempered) > 0.005
    assert abs(exact - (prior * factors).sum().item()) > 0.005
