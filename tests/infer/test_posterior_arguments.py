"""What the readings of a posterior are given, and should not be."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.answers import answer
from pyro_llm.budget import Budget
from pyro_llm.distributions import LLM
from pyro_llm.errors import NoChainsError, NoScoresError, NoTextError, OptionError
from pyro_llm.infer import SMC, AdaptiveTempering, BeamSearch, ParallelTempering, ParticleGibbs
from pyro_llm.lm import TableLM


def test_arguments_of_another_kind_are_told():
    posterior = SMC(lambda: pyro.sample("trust", dist.Beta(2.0, 2.0)), 4, progress=False).run()
    with pytest.raises(TypeError, match="did you mean of='trust'"):
        posterior.marginal("trust")
    with pytest.raises(TypeError, match=r"no function .* there are 'trust'"):
        posterior.decision("doubt")
    with pytest.raises(OptionError, match=r"Thresholds\(ess=3\)"):
        posterior.diagnose(thresholds={"ess": 3})
    with pytest.raises(OptionError, match=r"run='x'(.|\n)*plot\(\)\.savefig"):
        posterior.plot("x")
    with pytest.raises(OptionError, match="count=0"):
        posterior.marginal(of="trust").most_probable(0)
    with pytest.raises(NoTextError, match="a string, not a NoneType"):
        answer(None)


def normal():
    x = pyro.sample("x", dist.Normal(0.0, 1.0))
    pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(0.5))
    return x


def test_rates_of_what_is_no_chain_and_parts_of_draws():
    posterior = SMC(normal, 4, progress=False).run()
    with pytest.raises(NoChainsError, match="ParticleGibbs"):
        posterior.update_rates()
    with pytest.raises(OptionError, match=r"num_particles=10\.5"):
        posterior.resample(10.5)
    assert posterior.resample(np.int64(3)).num_particles == 3


def test_integers_of_numpy_are_integers():
    three = np.int64(3)
    for algorithm in (
        SMC(normal, three, num_runs=three, max_plate_nesting=np.int8(0), tempering=AdaptiveTempering(num_steps=three)),
        ParticleGibbs(normal, three, three, num_chains=three),
        ParticleGibbs(normal, np.array([4, 3]), three),
        ParallelTempering(normal, three, three, num_rungs=three),
        BeamSearch(normal, three, beam_width=three),
    ):
        sizes = [value for value in vars(algorithm.options).values() if isinstance(value, int | np.integer)]
        assert sizes and all(type(value) in (int, bool) for value in sizes)
        assert algorithm.run().num_particles == 3
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], 2)
    assert LLM(lm, lm.prompt(""), max_tokens=three).sample().shape == (3,)
    assert Budget(generations=three).generations == 3


@pytest.mark.parametrize("wrong", [True, np.True_, torch.tensor(True), np.float64(3.0), "3", None])
def test_what_is_no_integer(wrong):
    for make in (
        lambda: SMC(normal, wrong),
        lambda: ParticleGibbs(normal, wrong, 3),
        lambda: SMC(normal, 3, num_runs=wrong),
    ):
        with pytest.raises(OptionError, match="give an integer of at least"):
            make()


class Undensed(dist.Normal):
    """A distribution that can only be sampled."""

    def log_prob(self, value):
        raise NotImplementedError


def test_a_joint_density_that_is_not_known_is_told():
    def model():
        x = pyro.sample("x", Undensed(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(1.0))

    posterior = SMC(model, 4, progress=False).run()
    assert posterior.best().log_likelihood == posterior.log_likelihood.max()
    with pytest.raises(NoScoresError, match="a latent site has no density"):
        posterior.best(by="lp")


def test_a_particle_of_unknown_score_is_not_the_best():
    posterior = SMC(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), 4, progress=False).run()
    posterior.log_prior[0, 2] = float("nan")
    assert posterior.best(by="lp").lp == posterior.lp[posterior.lp.isfinite()].max()
