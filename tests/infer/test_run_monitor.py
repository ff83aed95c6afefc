import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.errors import UnhealthyRunWarning
from pyro_llm.infer import SMC, ParticleGibbs
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward


def steps(factor, num_steps=6):
    def model():
        x = torch.zeros(())
        for t in range(num_steps):
            x = x + pyro.sample(f"x_{t}", dist.Normal(0.0, 1.0))
            pyro.factor(f"f_{t}", factor(x, t))

    return model


def told(algorithm):
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        algorithm.run()
    assert all(issubclass(warning.category, UnhealthyRunWarning) for warning in given)
    return [str(warning.message).split(":")[0] for warning in given]


def test_a_healthy_run_warns_of_nothing():
    assert told(SMC(steps(lambda x, t: -((x - 1) ** 2)), 32)) == []
    assert told(SMC(steps(lambda x, t: -((x - 1) ** 2), num_steps=50), 32, num_runs=3)) == []


@pytest.mark.parametrize(("value", "name"), [(-1e-4, "reward-saturated"), (-0.7, "reward-constant")])
def test_factors_that_tell_nothing_are_told_once(value, name):
    def factor(x, t):
        return torch.full_like(x, value)

    assert told(SMC(steps(factor, num_steps=40), 16, num_runs=2)) == [name]
    assert told(SMC(steps(lambda x, t: torch.zeros_like(x)), 16)) == []  # a constraint that is met
    assert told(SMC(steps(factor, num_steps=4), 16)) == []  # too early to tell
    assert told(SMC(steps(factor), 4)) == []  # too few particles to expect anything of
    long = steps(factor, num_steps=20)
    assert told(ParticleGibbs(long, 16, num_iterations=5)) == [name]  # once, not in each sweep
    early = [] if name == "reward-saturated" else [name]  # the first tokens may all meet a constraint
    assert told(SMC(steps(factor), 16)) == early


def test_one_step_that_tells_particles_apart_is_enough():
    assert told(SMC(steps(lambda x, t: x if t == 3 else torch.zeros_like(x)), 16)) == []


def test_a_step_that_leaves_one_lineage():
    def factor(x, t):
        return torch.where(x == x.max(), 0.0, -30.0) if t == 2 else 0.3 * x

    assert told(SMC(steps(factor), 32)) == ["one-lineage"]
    assert told(SMC(steps(factor), 32, ess_threshold=0)) == []  # nothing is resampled
    assert told(ParticleGibbs(steps(factor), 32, num_iterations=3)) == []  # the reference is in every lineage


def test_steps_that_are_cut_off():
    lm = TableLM(lambda tokens: [0.49, 0.49, 0.02], ["a", "b", "."], eos_token_id=2)
    reward = FunctionReward(lambda text: 0.5 + 0.1 * text.count("a") / (1 + len(text)))
    model = ReasoningSSM(lm, reward, max_steps=6, stop="ab", max_tokens=2)
    with pytest.warns(UnhealthyRunWarning, match=r"truncated-steps: \d+% of the steps so far"):
        posterior = SMC(model, 32).run("?")
    share = posterior.cost.steps_truncated / posterior.cost.steps_sampled
    assert share == pytest.approx((0.98**2 - 0.49**2), abs=0.15)  # 72 percent, of 150 steps and more


def test_what_is_truncated_is_counted_exactly():
    """Of all rows that are drawn: those of two tokens that do not end in the stop string or EOS."""
    lm = TableLM(lambda tokens: [0.45, 0.45, 0.1], ["a", "b", "."], eos_token_id=2)
    model = ReasoningSSM(lm, FunctionReward(lambda text: 0.5), max_steps=1, stop="ab", max_tokens=2)
    pyro.set_rng_seed(0)
    posterior = SMC(model, 500).run("?")
    rows = posterior.samples["step_0"][0].tolist()
    assert posterior.cost.steps_sampled == 500
    assert posterior.cost.steps_truncated == sum(row in ([0, 0], [1, 0], [1, 1]) for row in rows) > 0
    blocks = ReasoningSSM(lm, FunctionReward(lambda text: 0.5), max_steps=1, stop=None, max_tokens=2)
    assert SMC(blocks, 5).run("?").cost.steps_sampled == 0


def test_it_can_be_silenced():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", UnhealthyRunWarning)
        SMC(steps(lambda x, t: torch.full_like(x, -0.7)), 16).run()
