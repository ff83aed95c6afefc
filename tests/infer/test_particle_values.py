"""Return values and sites of any make become the keys of a marginal."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.infer import SMC
from pyro_llm.infer.particle_values import hashable
from pyro_llm.lm import TableLM

VOCABULARY = ["a", "b", "<eos>"]


def table_lm():
    return TableLM(lambda tokens: [0.5, 0.5, 0.0] if not tokens else [0.0, 0.0, 1.0], VOCABULARY, 2)


def test_nan_is_one_key():
    assert hashable(float("nan")) is None
    assert hashable(torch.tensor(math.nan)) is None
    assert hashable({"x": torch.tensor([1.0, math.nan])}) == (("x", (1.0, None)),)


def test_text_states_within_a_structure_are_compared_by_their_texts():
    from pyro_llm.distributions import LLM

    lm = table_lm()

    def model():
        state = lm.prompt("x")
        state = state.append(pyro.sample("step", LLM(lm, state, stop=None, max_tokens=2)))
        return state, {"length": state.lengths}

    pyro.set_rng_seed(0)
    marginal = SMC(model, num_particles=40, num_runs=2).run().marginal()
    assert {text for text, _ in marginal} == {"a", "b"}
    assert len(marginal) == 2
    assert sum(marginal.values()) == pytest.approx(1.0)


def test_sites_that_a_particle_has_not_met_are_one_value():
    def model():
        if pyro.sample("tails", dist.Bernoulli(0.5)):
            pyro.sample("x", dist.Delta(torch.tensor(2.5)))
            pyro.sample("n", dist.Delta(torch.tensor(3)))

    pyro.set_rng_seed(0)
    posterior = SMC(model, num_particles=40, particles="scalar").run()
    heads = posterior.marginal(of="tails")[0.0]
    assert dict(posterior.marginal(of="x")) == pytest.approx({None: heads, 2.5: 1 - heads})
    assert dict(posterior.marginal(of="n")) == pytest.approx({None: heads, 3: 1 - heads})


def test_a_shared_value_of_the_size_of_the_population():
    """Of a plain tensor only the size can tell; an array of numbers says that all particles share it."""
    data = torch.arange(6.0)

    def model():
        x = pyro.sample("x", dist.Normal(0.0, 1.0))
        return {"x": x, "tensor": data, "array": data.numpy()}

    posterior = SMC(model, num_particles=3, num_runs=2).run()
    assert posterior.returns["x"].shape == posterior.returns["tensor"].shape == (2, 3)
    assert posterior.returns["array"].shape == (6,)
    best = posterior.best().value
    assert best["x"].shape == () and best["array"].tolist() == data.tolist()
