"""`ReasoningSSM` is the paper's joint, to the last digit; and its evidence is what SMC estimates."""

import math
import pickle
from dataclasses import replace

import pyro
import pyro.distributions as dist
import pyro.poutine as poutine
import pytest
import torch

from pyro_llm.errors import OptionError
from pyro_llm.infer import SMC
from pyro_llm.lm import PAD, TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import run_scope

VOCABULARY = ["x", "y", "\n", "."]
EOS = 3
TABLE = [[0.4, 0.2, 0.3, 0.1], [0.1, 0.3, 0.4, 0.2], [0.2, 0.1, 0.1, 0.6], [0.3, 0.3, 0.2, 0.2]]


def conditional(tokens):
    return TABLE[(sum(tokens) + len(tokens)) % 4]


def probability(text):
    return (1 + text.count("x")) / (2 + len(text))


@pytest.fixture
def model():
    lm = TableLM(conditional, VOCABULARY, eos_token_id=EOS)
    return ReasoningSSM(lm, FunctionReward(probability), max_steps=3, max_tokens=2)


def steps(before, step=()):
    """Steps of at most two tokens, ended by a newline or EOS, with their probabilities."""
    if step[-1:] in ((2,), (EOS,)) or len(step) == 2:
        return {step: 1.0}
    return {
        whole: p * rest
        for id, p in enumerate(conditional((*before, *step)))
        for whole, rest in steps(before, (*step, id)).items()
    }


def joint(model, before=(), remaining=3):
    """Equation 1 with o = 1, for every sequence of steps."""
    if remaining == 0 or before[-1:] == (EOS,):
        return {(): 1.0}
    return {
        (step, *rest): p * probability(model.lm.decode((*before, *step))) * q
        for step, p in steps(before).items()
        for rest, q in joint(model, (*before, *step), remaining - 1).items()
    }


def test_the_joint_of_every_solution(model):
    exact = joint(model)
    rows = list(exact)
    padded = [[(*step, PAD, PAD)[:2] for step in (*row, (), (), ())] for row in rows]
    values = {f"step_{t}": torch.tensor([row[t] for row in padded]) for t in range(3)}
    with pyro.plate("solutions", len(rows)):
        trace = poutine.trace(poutine.condition(model, values)).get_trace("")
    trace.compute_log_prob()
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    assert [site["name"] for site in sites] == ["step_0", "accept_0", "step_1", "accept_1", "step_2", "accept_2"]
    joint_probability = sum(site["log_prob"] for site in sites).exp()
    expected = torch.tensor(list(exact.values()), dtype=torch.float64)
    torch.testing.assert_close(joint_probability, expected, rtol=1e-12, atol=0)


def test_it_ends_when_every_solution_has(model):
    ended = torch.tensor([[EOS, PAD], [0, EOS]])
    trace = poutine.trace(poutine.condition(model, {"step_0": ended})).get_trace("")
    assert "accept_0" in trace.nodes
    assert "step_1" not in trace.nodes
    assert trace.nodes["_RETURN"]["value"].finished.all()
    once = ReasoningSSM(model.lm, model.reward, max_steps=1, max_tokens=2)
    assert "step_1" not in poutine.trace(once).get_trace("").nodes


def test_options_reach_the_transition(model):
    greedy = []
    while len(greedy) < 3:
        row = conditional(tuple(greedy))
        greedy.append(row.index(max(row)))
    assert 2 in greedy  # a newline, so that `stop` matters
    for option, value in [("top_k", 1), ("temperature", 0.01), ("top_p", 0.1)]:
        for stop, expected in [(None, greedy), ("\n", greedy[: greedy.index(2) + 1])]:
            program = ReasoningSSM(model.lm, model.reward, max_steps=1, stop=stop, max_tokens=3, **{option: value})
            assert program("").tokens.tolist() == expected


def test_smc_estimates_its_evidence(model):
    # Null: the mean of unbiased estimates. 4 standard errors of 300 runs; it would fail once in 16,000 seeds.
    z = sum(joint(model).values())
    estimates = SMC(model, num_particles=6, num_runs=300).run("").log_evidence.exp()
    error = estimates.std().item() / math.sqrt(300)
    assert error < 0.05 * z  # so that the test can tell
    assert abs(estimates.mean().item() - z) < 4 * error


def test_what_else_is_observed_of_a_step(model):
    """Each further factor stands in the joint, once a step, after the judgement, on the text so far."""
    seen = []

    def observe(t, state):
        seen.append((t, state.texts.tolist()))
        pyro.sample(f"heard_{t}", dist.Bernoulli(torch.full(state.batch_shape, 0.25)), obs=torch.ones(3))

    values = {
        "step_0": torch.tensor([[EOS, PAD], [0, EOS], [0, 1]]),
        "step_1": torch.tensor([[PAD] * 2] * 2 + [[EOS, PAD]]),
    }
    heard = replace(model, observe=observe)
    with pyro.plate("solutions", 3):
        trace = poutine.trace(poutine.condition(heard, values)).get_trace("")
    trace.compute_log_prob()
    names = [name for name, site in trace.nodes.items() if site["type"] == "sample" and name != "solutions"]
    assert names == ["step_0", "accept_0", "heard_0", "step_1", "accept_1", "heard_1"]
    assert seen == [(0, ["", "x", "xy"]), (1, ["", "x", "xy"])]
    torch.testing.assert_close(trace.nodes["heard_1"]["log_prob"], torch.full((3,), 0.25).log())
    with pytest.raises(OptionError, match="observe='votes': give a function"):
        ReasoningSSM(model.lm, model.reward, observe="votes")


def test_a_reward_is_asked_once_for_each_text(model):
    with run_scope() as scope, pyro.plate("solutions", 500):
        trace = poutine.trace(model).get_trace("")
        trace.compute_log_prob()
    texts = set()
    state = model.lm.prompt("")
    for t in range(3):
        state = state.append(trace.nodes[f"step_{t}"]["value"])
        texts |= set(state.texts.tolist())
    assert scope.cost.reward_calls == len(texts)


def test_value_semantics_and_repr(model):
    again = pickle.loads(pickle.dumps(model))
    assert again.max_steps == 3
    assert again("").batch_shape == ()
    assert repr(model).startswith("ReasoningSSM(lm=TableLM(")
    assert "max_tokens=2" in repr(model)
    with pytest.raises(AttributeError):
        model.max_steps = 5


@pytest.mark.parametrize("max_steps", [0, -1, 2.5, True])
def test_bad_max_steps(model, max_steps):
    with pytest.raises(OptionError, match=r"max_steps=.*an integer"):
        ReasoningSSM(model.lm, model.reward, max_steps=max_steps)


def test_particle_by_particle_it_is_the_same(model):
    # Null as for batched particles, over 60 runs.
    z = sum(joint(model).values())
    posterior = SMC(model, num_particles=4, num_runs=60, particles="scalar").run("")
    estimates = posterior.log_evidence.exp()
    assert abs(estimates.mean().item() - z) < 4 * estimates.std().item() / math.sqrt(60)
    assert posterior.cost.lm_calls < 60  # 240 particles, in shared batches
