"""The targets under Pyro's own algorithms: importance sampling, prediction, and SVI for a parameter inside."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import SVI, Importance, Predictive, Trace_ELBO, TraceEnum_ELBO, config_enumerate
from torch.distributions import constraints

from pyro_llm.distributions import Acceptance, NextToken, accept
from pyro_llm.lm import TableLM
from pyro_llm.models import PowerText, ReasoningSSM
from pyro_llm.rewards import FunctionReward

REWARDS = {"a": 0.9, "b": 0.3, "aa": 0.2, "ab": 0.7, "ba": 0.8, "bb": 0.4}
REWARD = FunctionReward(lambda text: REWARDS.get(text, 0.5))  # enumeration also asks for texts that cannot be


@pytest.fixture
def lm():
    rows = {(): [0.25, 0.75, 0.0], (0,): [0.5, 0.5, 0.0], (1,): [0.6, 0.4, 0.0]}
    return TableLM(lambda tokens: rows.get(tokens, [0.0, 0.0, 1.0]), ["a", "b", "."], eos_token_id=2)


@pytest.fixture(autouse=True)
def fresh():
    pyro.clear_param_store()
    pyro.set_rng_seed(3)


def factors(text, emission):
    """The factors of both prefixes."""
    first, second = REWARDS[text[0]], REWARDS[text]
    return {
        "bernoulli": (first, second),
        "potential": (first, second / first),
        "odds": (first / (1 - first), second / (1 - second)),
    }[emission]


def texts(lm):
    return {lm.decode(tokens): math.exp(log_prob) for tokens, log_prob in lm.enumerate(2)}


@pytest.mark.parametrize("emission", ["bernoulli", "potential", "odds"])
def test_importance(lm, emission):
    """Null: weights average to Z, and to Z P(text). 4 standard errors of 300 weights: 1.3e-4 a case."""
    model = ReasoningSSM(lm, REWARD, max_steps=2, stop=None, max_tokens=1, emission=emission, inverse_temperature=0.7)
    posterior = Importance(model, num_samples=300).run("")
    weights = torch.stack(posterior.log_weights).exp()
    hit = torch.tensor([trace.nodes["_RETURN"]["value"].texts.item() == "ab" for trace in posterior.exec_traces])
    exact = {text: p * math.prod(factors(text, emission)) ** 0.7 for text, p in texts(lm).items()}
    for found, expected in ((weights, sum(exact.values())), (weights * hit, exact["ab"])):
        assert abs(found.mean() - expected) < 4 * found.std() / 300**0.5


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive(lm, parallel):
    """Null: prior draws, whatever the factors. 4 standard errors."""
    size = 4000 if parallel else 100
    for model in (
        ReasoningSSM(lm, REWARD, max_steps=2, stop=None, max_tokens=1, emission="potential"),
        PowerText(lm, 2.0, max_steps=2, stop=None, max_tokens=1),
    ):
        drawn = Predictive(model, num_samples=size, parallel=parallel)("")["step_0"]
        assert drawn.shape == (size, 1)
        assert abs((drawn == 1).double().mean() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / size)


def test_importance_of_a_power(lm):
    """Null: weights average to the sum of squares. 4 standard errors of 300 weights."""
    posterior = Importance(PowerText(lm, 2.0, max_steps=2, stop=None, max_tokens=1), num_samples=300).run("")
    weights = torch.stack(posterior.log_weights).exp()
    assert abs(weights.mean() - sum(p**2 for p in texts(lm).values())) < 4 * weights.std() / 300**0.5


def with_parameter(lm, emission):
    """A Gamma(4, 2) prior on the inverse temperature, whose mode given the acceptances is sought."""

    @config_enumerate
    def program():
        beta = pyro.param("beta", torch.tensor(1.0, dtype=torch.float64), constraint=constraints.positive)
        pyro.factor("prior", dist.Gamma(4.0, 2.0).log_prob(beta))
        state = lm.prompt("")
        for t in range(2):
            state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state)))
            accept(f"accept_{t}", REWARD, state, emission, beta)

    return program


def log_posterior(lm, emission, beta):
    """log Z(beta) and the log-prior, by enumeration, differentiable in beta."""
    terms = [math.log(p) + beta * sum(map(math.log, factors(text, emission))) for text, p in texts(lm).items()]
    return torch.stack(terms).logsumexp(0) + dist.Gamma(4.0, 2.0).log_prob(beta)


@pytest.mark.parametrize("emission", ["bernoulli", "potential"])
def test_svi_finds_the_best_inverse_temperature(lm, emission):
    """With the tokens enumerated the ELBO is log Z(beta): its gradient is exact, and SVI climbs to its maximum."""
    program = with_parameter(lm, emission)
    elbo = TraceEnum_ELBO(max_plate_nesting=0)
    loss = elbo.differentiable_loss(program, lambda: None)
    beta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    exact = log_posterior(lm, emission, beta)
    assert -loss.item() == pytest.approx(exact.item(), rel=1e-6)
    loss.backward()
    unconstrained = pyro.get_param_store()._params["beta"]
    (gradient,) = torch.autograd.grad(exact, beta)
    assert -unconstrained.grad.item() == pytest.approx(gradient.item(), rel=1e-6)  # d beta / d log beta = 1 here
    pyro.clear_param_store()
    svi = SVI(program, lambda: None, pyro.optim.Adam({"lr": 0.05}), elbo)
    for _ in range(250):
        svi.step()
    grid = torch.linspace(0.05, 6.0, 2381, dtype=torch.float64)
    best = grid[torch.stack([log_posterior(lm, emission, beta) for beta in grid]).argmax()].item()
    assert pyro.param("beta").item() == pytest.approx(best, abs=0.01)


def test_svi_by_sampling(lm):
    """Null: with the prior of the tokens as guide, the gradient of the ELBO is the prior mean of the log-factors.

    4 standard errors of 200 gradients.
    """

    def program():
        beta = pyro.param("beta", torch.tensor(1.0, dtype=torch.float64))
        state = lm.prompt("")
        for t in range(2):
            state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state)))
            accept(f"accept_{t}", REWARD, state, inverse_temperature=beta)

    def guide():
        state = lm.prompt("")
        for t in range(2):
            state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state)))

    gradients = []
    for _ in range(200):
        pyro.clear_param_store()
        Trace_ELBO().differentiable_loss(program, guide).backward()
        gradients.append(-pyro.get_param_store()._params["beta"].grad)
    found = torch.stack(gradients)
    exact = sum(p * sum(map(math.log, factors(text, "bernoulli"))) for text, p in texts(lm).items())
    assert abs(found.mean() - exact) < 4 * found.std() / 200**0.5


def test_svi_calibrates_a_reward(lm):
    """A temperature of the log-odds themselves, fitted to labelled texts: `Acceptance.logits` times a parameter."""
    labelled = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1], [0, 0], [1, 0]])
    labels = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    logits = torch.tensor([REWARDS[lm.decode(row)] for row in labelled.tolist()], dtype=torch.float64).logit()

    def program():
        beta = pyro.param("beta", torch.tensor(1.0, dtype=torch.float64), constraint=constraints.positive)
        state = lm.prompt("").append(labelled)
        with pyro.plate("texts", len(labelled)):
            pyro.sample("label", dist.Bernoulli(logits=beta * Acceptance(REWARD, state).logits), obs=labels)

    svi = SVI(program, lambda: None, pyro.optim.Adam({"lr": 0.05}), Trace_ELBO())
    for _ in range(200):
        svi.step()
    grid = torch.linspace(0.05, 5.0, 1981, dtype=torch.float64)
    likelihood = [dist.Bernoulli(logits=beta * logits).log_prob(labels).sum() for beta in grid]
    assert pyro.param("beta").item() == pytest.approx(grid[torch.stack(likelihood).argmax()].item(), abs=0.01)
