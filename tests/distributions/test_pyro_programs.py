"""The contract's program under plain Pyro: traced, in plates, conditioned, predicted, weighed, drawn and pickled."""

import io
import math
import pickle

import pyro
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer import Importance, Predictive
from pyro.infer.importance import vectorized_importance_weights
from pyro.infer.inspect import get_dependencies, get_model_relations

import pyro_llm
from pyro_llm.distributions import LLM
from pyro_llm.lm import PAD
from pyro_llm.rewards import FunctionReward

EOS = 5
STEPS = 3


def probability(text):
    return (1 + text.count("a")) / (2 + len(text))


@pytest.fixture
def reward():
    return FunctionReward(probability)


@pytest.fixture
def reason(lm, reward):
    def reason(problem="", max_steps=STEPS, early=False):
        state = lm.prompt(problem)
        for t in range(max_steps):
            step = pyro.sample(f"step_{t}", LLM(lm, state, stop="b", max_tokens=2))
            state = state.append(step)
            pyro_llm.accept(f"accept_{t}", reward, state)
            if early and state.finished.all():
                break
        return state

    return reason


@pytest.fixture
def evidence(lm, oracle):
    """Z of the program and the posterior probability of each text, by enumeration."""
    law = oracle(stop="b", max_tokens=2)

    def extend(before, remaining):
        if remaining == 0 or before[-1:] == (EOS,):
            return {before: 1.0}
        return {
            whole: p * probability(lm.decode((*before, *step))) * rest
            for step, p in law.steps(before).items()
            for whole, rest in extend((*before, *step), remaining - 1).items()
        }

    def compute(max_steps):
        weights = {}
        for tokens, p in extend((), max_steps).items():
            weights[lm.decode(tokens)] = weights.get(lm.decode(tokens), 0.0) + p
        return sum(weights.values()), weights

    return compute


def by_hand(lm, oracle, trace):
    """The log-joint of a trace of a single text."""
    before, total = (), 0.0
    for t in range(STEPS):
        step = tuple(id for id in trace.nodes[f"step_{t}"]["value"].tolist() if id != PAD)
        if step:
            total += math.log(oracle(stop="b", max_tokens=2).steps(before)[step])
            before = (*before, *step)
            total += math.log(probability(lm.decode(before)))
    return total


def test_trace_and_compute_log_prob(lm, oracle, reason):
    for _ in range(20):
        trace = poutine.trace(reason).get_trace()
        trace.compute_log_prob()
        assert trace.log_prob_sum().item() == pytest.approx(by_hand(lm, oracle, trace), rel=1e-12)
    assert all(kind == "sample" for kind, _ in lm.requests)


def test_format_shapes(reason):
    with pyro.plate("texts", 5):
        trace = poutine.trace(reason).get_trace(max_steps=1)
    trace.compute_log_prob()
    rows = [line.split() for line in trace.format_shapes().splitlines()]
    assert rows[-6:] == [
        ["step_0", "dist", "5", "|", "2"],
        ["value", "5", "|", "2"],
        ["log_prob", "5", "|"],
        ["accept_0", "dist", "5", "|"],
        ["value", "|"],
        ["log_prob", "5", "|"],
    ]


def test_nested_plates_mask_and_to_event(lm, reason):
    with pyro.plate("outer", 3, dim=-2), pyro.plate("inner", 4, dim=-1), poutine.mask(mask=torch.arange(4) < 2):
        trace = poutine.trace(reason).get_trace()
    trace.compute_log_prob()
    for t in range(STEPS):
        assert trace.nodes[f"step_{t}"]["value"].shape == (3, 4, 2)
        for site in (f"step_{t}", f"accept_{t}"):
            log_prob = trace.nodes[site]["log_prob"]
            assert log_prob.shape == (3, 4)
            assert (log_prob[:, 2:] == 0).all()
    assert (trace.nodes["step_0"]["log_prob"][:, :2] < 0).all()

    def joint():
        return pyro.sample("both", LLM(lm, lm.prompt(""), max_tokens=2).expand([2, 3]).to_event(1))

    with pyro.plate("rows", 2):
        trace = poutine.trace(joint).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["both"]["log_prob"].shape == (2,)
    assert trace.nodes["both"]["fn"].event_shape == (3, 2)


@pytest.mark.parametrize("parallel", [False, True])
def test_predictive(lm, oracle, reason, parallel):
    # Null: prior draws. 4 standard errors on the probability that the first step is "a" then "b".
    size = 4000 if parallel else 100
    samples = Predictive(reason, num_samples=size, parallel=parallel)()
    assert set(samples) == {f"{kind}_{t}" for kind in ("step", "accept") for t in range(STEPS)}
    assert samples["step_2"].shape == (size, 2)
    p = oracle(stop="b", max_tokens=2).steps()[(0, 1)]
    frequency = (samples["step_0"] == torch.tensor([0, 1])).all(-1).double().mean().item()
    assert abs(frequency - p) < 4 * math.sqrt(p * (1 - p) / size)
    again = Predictive(reason, posterior_samples={"step_0": samples["step_0"]}, parallel=parallel)()
    ended = (samples["step_0"] == EOS).any(-1)
    assert (again["step_1"][ended] == PAD).all()
    assert (again["step_1"][~ended, 0] != PAD).all()


def test_predictive_of_a_program_that_leaves_its_loop(reason):
    samples = Predictive(reason, num_samples=50, parallel=True, return_sites=["step_0", "_RETURN"])(early=True)
    assert samples["_RETURN"].batch_shape == (50,)


def test_importance(lm, reason, evidence):
    # Null: weights average to Z. 4 standard errors of 400 weights.
    z, weights = evidence(2)
    posterior = Importance(reason, num_samples=400).run(max_steps=2, early=True)
    w = torch.stack(posterior.log_weights).exp()
    assert abs(w.mean() - z) < 4 * w.std() / 400**0.5
    texts = [trace.nodes["_RETURN"]["value"].texts.item() for trace in posterior.exec_traces]
    hits = torch.tensor([text == "ab" for text in texts], dtype=torch.float64)
    p, share = weights["ab"] / z, (w * hits).sum() / w.sum()
    assert abs(share - p) < 4 * ((w / w.mean()) * (hits - p)).std() / 400**0.5
    assert all(kind == "sample" for kind, _ in lm.requests)  # replayed steps keep the log-prob they were drawn with


def test_vectorized_importance(lm, reason, evidence):
    # Null: weights average to Z. 4 standard errors of 4,000 weights.
    guide = poutine.block(reason, hide_types=["observe"])
    z, _ = evidence(STEPS)
    log_weights, *_ = vectorized_importance_weights(reason, guide, num_samples=4000, max_plate_nesting=0)
    w = log_weights.exp()
    assert abs(w.mean() - z) < 4 * w.std() / 4000**0.5
    assert all(kind == "sample" for kind, _ in lm.requests)


def test_condition_and_obs(lm, oracle, reason):
    law, prompt = oracle(stop="b", max_tokens=2), lm.prompt("")
    step = LLM(lm, prompt, stop="b", max_tokens=2).encode("aa")
    trace = poutine.trace(poutine.condition(reason, {"step_0": step})).get_trace()
    trace.compute_log_prob()
    assert trace.nodes["step_0"]["log_prob"].exp().item() == pytest.approx(law.steps()[(0, 0)], rel=1e-12)
    assert trace.nodes["_RETURN"]["value"].texts.item().startswith("aa")

    def observed():
        pyro.sample("text", LLM(lm, prompt, stop="b", max_tokens=2), obs=torch.tensor([[0, 0], [2, 1], [1, PAD]]))

    with pyro.plate("data", 3):
        trace = poutine.trace(observed).get_trace()
    expected = sum(math.log(law.steps()[tokens]) for tokens in [(0, 0), (2, 1), (1,)])
    assert trace.log_prob_sum().item() == pytest.approx(expected, rel=1e-12)


def test_validation_is_on_and_rejects_what_cannot_be_observed(lm):
    assert pyro.settings.get("validate_distributions_pyro")

    def program():
        pyro.sample("text", LLM(lm, lm.prompt(""), max_tokens=2), obs=torch.tensor([EOS, 0]))

    with pytest.raises(ValueError, match=r"(?s)site 'text'.*within the support"):
        poutine.trace(program).get_trace().compute_log_prob()


def test_edges_of_the_program(reason):
    relations = get_model_relations(reason)
    assert {site: set(parents) for site, parents in relations["sample_sample"].items()} == {
        "step_0": set(),
        "accept_0": {"step_0"},
        "step_1": {"step_0"},
        "accept_1": {"step_0", "step_1"},
        "step_2": {"step_0", "step_1"},
        "accept_2": {"step_0", "step_1", "step_2"},
    }
    assert relations["observed"] == ["accept_0", "accept_1", "accept_2"]
    assert relations["sample_dist"]["step_0"] == "LLM"
    assert relations["sample_dist"]["accept_0"] == "Acceptance"
    dependencies = get_dependencies(reason)["posterior_dependencies"]
    assert set(dependencies["step_2"]) == {"step_2", "accept_2"}
    assert set(dependencies["step_1"]) == {"step_1", "accept_1", "step_2", "accept_2"}


def test_render_model(reason):
    source = pyro.render_model(reason, render_distributions=True).source
    for edge in ("step_0 -> accept_0", "step_0 -> step_1", "step_1 -> accept_1", "step_2 -> accept_2"):
        assert edge in source
    assert "step_2 -> accept_1" not in source


def test_a_trace_can_be_pickled_and_scored_again(reason):
    with pyro.plate("texts", 4):
        trace = poutine.trace(reason).get_trace()
    total = trace.log_prob_sum()
    file = io.BytesIO()
    sites = {name: site["value"] for name, site in trace.nodes.items() if name.startswith("step")}
    pickle.dump((trace.nodes["step_1"]["fn"], trace.nodes["_RETURN"]["value"], sites), file)
    file.seek(0)
    step, state, sites = pickle.load(file)
    assert state.texts.tolist() == trace.nodes["_RETURN"]["value"].texts.tolist()
    torch.testing.assert_close(step.log_prob(sites["step_1"]), trace.nodes["step_1"]["fn"].log_prob(sites["step_1"]))
    with pyro.plate("texts", 4):
        again = poutine.trace(poutine.condition(reason, sites)).get_trace()
    torch.testing.assert_close(again.log_prob_sum(), total, rtol=1e-12, atol=0)
