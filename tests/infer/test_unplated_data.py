"""Mistakes with plates: data that stand where the particles are, and shapes that do not fit."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from pyro_llm import accept
from pyro_llm.distributions import LLM
from pyro_llm.infer import SMC, Importance, ParticleGibbs, PlateNestingError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

SIZE = 12
DATA = torch.linspace(-1.0, 3.0, SIZE)


def without_a_plate(data, later=False):
    mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
    pyro.sample("y", dist.Normal(mu, 1.0), obs=data)
    if later:
        pyro.sample("z", dist.Normal(mu, 1.0))


@pytest.mark.parametrize(
    "algorithm",
    [
        lambda model: SMC(model, SIZE, progress=False),
        lambda model: SMC(model, SIZE, ess_threshold=1.0, progress=False),
        lambda model: SMC(model, SIZE // 2, num_runs=2, progress=False),
        lambda model: Importance(model, SIZE, progress=False),
        lambda model: ParticleGibbs(model, SIZE, 2, progress=False),
    ],
    ids=["SMC", "resampled", "runs", "Importance", "ParticleGibbs"],
)
@pytest.mark.parametrize("data", [DATA, torch.ones(SIZE)], ids=["data", "equal data"])
@pytest.mark.parametrize("later", [False, True])
def test_as_many_data_as_particles(algorithm, data, later):
    with pytest.raises(PlateNestingError, match=r"'y', of shape \(12,\), has 12 entries.*max_plate_nesting=1"):
        algorithm(without_a_plate).run(data, later=later)


def test_data_that_the_program_makes_or_that_a_handler_gives():
    def lists():
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal(mu, 1.0), obs=torch.tensor(DATA.tolist()))

    def residuals():
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        pyro.sample("y", dist.Normal(0.0, 1.0), obs=DATA - mu)

    def unobserved():
        pyro.sample("y", dist.Normal(pyro.sample("mu", dist.Normal(0.0, 3.0)), 1.0))

    for model in (lists, residuals, poutine.condition(unobserved, {"y": DATA})):
        with pytest.raises(PlateNestingError, match="does not follow them"):
            SMC(model, SIZE, progress=False).run()


def test_the_right_way():
    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("data", SIZE):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=DATA)

    pyro.set_rng_seed(0)
    posterior = SMC(model, SIZE, max_plate_nesting=1, progress=False).run()
    expected = dist.Normal(posterior.samples["mu"].reshape(-1, 1), 1.0).log_prob(DATA).double().sum(-1)
    torch.testing.assert_close(posterior.log_likelihood[0], expected)


def test_a_second_dimension_of_the_data():
    data = torch.randn(SIZE, 3)

    def model():
        mu = pyro.sample("mu", dist.Normal(0.0, 3.0))
        with pyro.plate("columns", 3):
            pyro.sample("y", dist.Normal(mu, 1.0), obs=data)

    with pytest.raises(PlateNestingError, match="max_plate_nesting=2"):
        SMC(model, SIZE, max_plate_nesting=1, progress=False).run()


@pytest.mark.parametrize("ess_threshold", [0.0, 1.0])
def test_values_that_follow_the_particles(ess_threshold):
    """What the program computes of its latent values, constants that it makes, and masks."""

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("shifted", dist.Normal(0.0, 1.0), obs=x - 1)
        pyro.sample("ones", dist.Bernoulli(logits=x), obs=torch.ones_like(x))
        pyro.sample("one", dist.Bernoulli(logits=x), obs=torch.tensor(1.0).expand(x.shape))
        z = pyro.sample("z", dist.Normal(x.unsqueeze(-1).expand((*x.shape, 2)), 1.0).to_event(1))
        with poutine.mask(mask=x > 0):
            pyro.sample("masked", dist.Normal(0.0, 1.0).expand([2]).to_event(1), obs=z * 2)
        pyro.sample("itself", dist.Normal(x, 1.0), obs=x)
        pyro.factor("factor", -(x**2))

    pyro.set_rng_seed(0)
    SMC(model, SIZE // 2, num_runs=2, ess_threshold=ess_threshold, progress=False).run()
    ParticleGibbs(model, SIZE, 2, ess_threshold=ess_threshold, progress=False).run()


def test_texts_that_are_judged_and_observed():
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], 2)
    reward = FunctionReward(lambda text: 0.5)

    def model(observe):
        state = lm.prompt("")
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=1)))
            accept(f"accept_{t}", reward, state)
            value = state.finished.float() if observe else torch.tensor(1.0)
            with poutine.mask(mask=False):
                pyro.sample(f"ended_{t}", dist.Bernoulli(0.5), obs=value)
            if state.finished.all():
                break
        return state

    costs = []
    for observe in (False, True):
        pyro.set_rng_seed(0)
        costs.append(SMC(lambda: model(observe), SIZE, ess_threshold=1.0, progress=False).run().cost)  # noqa: B023
    for item in ("lm_tokens_sampled", "lm_tokens_forwarded", "reward_calls"):  # the look at the values costs nothing
        assert getattr(costs[0], item) == getattr(costs[1], item) > 0


def test_values_that_do_not_repeat_themselves_are_left_alone():
    noise = iter(torch.randn(9, SIZE))

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(x, 1.0), obs=x + next(noise))

    SMC(model, SIZE, progress=False).run()


X = torch.linspace(-1.0, 1.0, 40).reshape(20, 2)


def line():
    a, b = (pyro.sample(name, dist.Normal(0.0, 1.0)) for name in "ab")
    with pyro.plate("data", 20):
        pyro.sample("y", dist.Normal(a + b * X[:, 0], 1.0), obs=torch.zeros(20))


def regression():
    w = pyro.sample("w", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    with pyro.plate("data", 20):
        pyro.sample("y", dist.Normal(w @ X.T, 1.0), obs=torch.zeros(20))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (line, r"size of tensor a \(100\)"),
        (regression, r"inside plate\('data'\)"),
        (lambda: without_a_plate(DATA), "not broadcastable"),
    ],
    ids=["plate", "product", "no plate"],
)
@pytest.mark.parametrize(
    "algorithm",
    [lambda model: SMC(model, 100, progress=False), lambda model: ParticleGibbs(model, 100, 2, progress=False)],
)
def test_shapes_that_do_not_fit(model, said, algorithm):
    with pytest.raises(
        PlateNestingError, match=rf'{said}.*100 is the number of particles.*max_plate_nesting.*particles="scalar"'
    ) as caught:
        algorithm(model).run()
    assert caught.value.__cause__ is not None


def test_other_shapes_that_do_not_fit():
    with pytest.raises(RuntimeError, match="size of tensor") as caught:
        SMC(lambda: torch.zeros(3) + torch.zeros(4), 100, progress=False).run()
    assert not isinstance(caught.value, PlateNestingError)


def test_the_line_in_its_plate_and_by_itself():
    SMC(line, 100, max_plate_nesting=1, progress=False).run()
    SMC(line, 10, particles="scalar", progress=False).run()
