"""The distributions on a Hugging Face model, a random Llama built from its config, against fresh forward passes."""

import pickle

import pyro
import pyro.poutine as poutine
import pytest
import torch
from pyro.infer import Importance, Predictive
from pyro.infer.inspect import get_model_relations
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

import pyro_llm
from pyro_llm import zoo
from pyro_llm.distributions import LLM, NextToken
from pyro_llm.lm import PAD, HFLanguageModel
from pyro_llm.rewards import FunctionReward
from pyro_llm.run_scope import run_scope

REWARD = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))


@pytest.fixture(scope="module")
def lm():
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=1024, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():  # so that newlines and EOS come up
        tokenizer = AutoTokenizer.from_pretrained(zoo.path("abacus", "lm"))
        model.lm_head.weight[0] *= 2
        model.lm_head.weight[tokenizer("\n")["input_ids"][0]] *= 3
    return HFLanguageModel(model, tokenizer, name="random llama")


def program(lm):
    def reason(problem="Mia has 3 apples."):
        state = lm.prompt(problem)
        for t in range(2):
            step = pyro.sample(f"step_{t}", LLM(lm, state, stop="\n", max_tokens=4, top_k=50))
            state = state.append(step)
            pyro_llm.accept(f"accept_{t}", REWARD, state)
        return state

    return reason


@torch.no_grad()
def fresh(lm, before, step, top_k=None):
    """Log-probability of a step after tokens, by a forward pass over all of them."""
    step = [id for id in step if id != PAD]
    logits = lm.model(torch.tensor([[*before, *step]])).logits[0, len(before) - 1 : -1].double()
    if top_k is not None:
        logits = logits.masked_fill(logits < logits.topk(top_k, -1).values[:, -1:], -torch.inf)
    return logits.log_softmax(-1).gather(-1, torch.tensor(step)[:, None]).sum().item()


def test_log_prob_of_a_traced_program(lm):
    with pyro.plate("texts", 12):
        trace = poutine.trace(program(lm)).get_trace()
    trace.compute_log_prob()
    prompt = trace.nodes["_RETURN"]["value"].prompt_tokens.tolist()
    first, second = (trace.nodes[f"step_{t}"] for t in range(2))
    for row in range(12):
        one, two = first["value"][row].tolist(), second["value"][row].tolist()
        expected = fresh(lm, prompt, one, 50)
        assert first["log_prob"][row].item() == pytest.approx(expected, abs=1e-4)
        if two[0] != PAD:
            expected = fresh(lm, [*prompt, *(id for id in one if id != PAD)], two, 50)
            assert second["log_prob"][row].item() == pytest.approx(expected, abs=1e-4)
        else:
            assert second["log_prob"][row].item() == 0.0
            assert 0 in one


def test_scoring_given_steps(lm):
    state = lm.prompt("7 * 8").append(torch.tensor([[5, 6, PAD], [7, PAD, PAD]]))
    value = torch.tensor([[8, 9, 10], [11, 12, PAD]])
    prompt = state.prompt_tokens.tolist()
    expected = [fresh(lm, [*prompt, 5, 6], [8, 9, 10]), fresh(lm, [*prompt, 7], [11, 12])]
    log_prob = LLM(lm, state, max_tokens=3).log_prob(value)
    torch.testing.assert_close(log_prob, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-4)
    tokens = NextToken(lm, state).log_prob(torch.tensor([[8, 11], [9, 12]]))
    expected = [[fresh(lm, [*prompt, 5, 6], [a]), fresh(lm, [*prompt, 7], [b])] for a, b in [(8, 11), (9, 12)]]
    torch.testing.assert_close(tokens, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-4)


def test_only_sampling_costs(lm):
    with run_scope() as scope:
        state = lm.prompt("7 * 8")
        step = LLM(lm, state, max_tokens=3).expand([4, 5])
        pickle.dumps(step)
        repr(step), step.support, step.to_event(1)
        assert scope.cost.lm_calls == 0
        value = step.sample()
        spent = scope.cost.lm_calls
        assert spent > 0
        assert step.mask(torch.tensor(True)).to_event(2).log_prob(value).equal(step.log_prob(value).sum())
        assert scope.cost.lm_calls == spent


def test_pyro_runs_it(lm):
    reason = program(lm)
    for parallel in (False, True):
        samples = Predictive(reason, num_samples=6, parallel=parallel)()
        assert samples["step_1"].shape == (6, 4)
    posterior = Importance(reason, num_samples=3).run()
    for trace, log_weight in zip(posterior.exec_traces, posterior.log_weights, strict=True):
        factors = sum(trace.nodes[f"accept_{t}"]["log_prob_sum"] for t in range(2))
        assert log_weight.item() == pytest.approx(factors.item(), abs=1e-12)  # the steps' own terms cancel exactly
    edges = get_model_relations(reason)["sample_sample"]
    assert {site: set(parents) for site, parents in edges.items()} == {
        "step_0": set(),
        "accept_0": {"step_0"},
        "step_1": {"step_0"},
        "accept_1": {"step_0", "step_1"},
    }


def test_pickle(lm):
    step = LLM(lm, lm.prompt("7 * 8"), max_tokens=3)
    value = step.expand([3]).sample()
    again = pickle.loads(pickle.dumps(step))
    torch.testing.assert_close(again.log_prob(value), step.expand([3]).log_prob(value), rtol=0, atol=1e-4)
