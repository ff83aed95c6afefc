import pyro
import pytest
import torch

from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

VOCABULARY = ["answer: 95\n", "answer: $x_1$\n", "so ", "<eos>"]


@pytest.fixture(scope="session")
def make_posterior():
    """Runs SMC on a small language model; two answers, and texts that state none."""

    def make(num_runs=3, num_particles=16, max_steps=5, ess_threshold=0.7):
        lm = TableLM(lambda tokens: [0.2, 0.3, 0.4, 0.1] if len(tokens) < 4 else [0.0, 0.0, 0.0, 1.0], VOCABULARY, 3)
        reward = FunctionReward(lambda text: 0.9 if "95" in text else 0.2)
        model = ReasoningSSM(lm, reward, max_steps=max_steps, stop=None, max_tokens=1)
        pyro.set_rng_seed(3)
        return SMC(model, num_particles=num_particles, num_runs=num_runs, ess_threshold=ess_threshold).run("47 + 48?")

    return make


@pytest.fixture
def posterior(make_posterior):
    return make_posterior()


@pytest.fixture
def numeric_posterior():
    """Of a program without texts, whose site names netCDF or the schema would refuse."""
    import pyro.distributions as dist

    def model():
        x = pyro.sample("a/b", dist.Normal(0.0, 1.0))
        pyro.sample("chain", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("x_dim_0", dist.Bernoulli(0.5))
        pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        pyro.sample("a.b", dist.Poisson(3.0))
        pyro.sample("a_b", dist.Poisson(3.0))
        pyro.sample("y/1", dist.Normal(x, 1.0), obs=torch.tensor(0.7))
        return x

    return SMC(model, num_particles=8, num_runs=2).run()
