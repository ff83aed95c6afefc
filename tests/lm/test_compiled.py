"""The compiled token loop: the graph is traced here, and run by torch; `make test-compile` has inductor's kernels."""

import copy

import pyro
import pytest
import torch
import torch._dynamo.testing

from pyro_llm.distributions import LLM
from pyro_llm.errors import CapabilityError, OptionError
from pyro_llm.infer import SMC
from pyro_llm.lm import HFLanguageModel, load_lm
from pyro_llm.lm.kv import compiled
from pyro_llm.rewards import FunctionReward

PROBLEMS = ["tom has 4 pens", "7", "anna 3", "b b b b b b b b 12"]
FAVOURITE = FunctionReward(lambda text: (1 + text.count("a") + text.count("7")) / (2 + len(text)))


def program(lm):
    def reason(problem):
        state = lm.prompt(problem)
        for t in range(3):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop=("1", "5", "e"), max_tokens=7)))
            pyro.factor(f"accept_{t}", FAVOURITE(state))
        return state

    return reason


@pytest.fixture
def graphs(monkeypatch):
    """Counts the graphs that are made."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounter()
    monkeypatch.setattr(compiled, "BACKEND", counter)
    yield counter
    torch._dynamo.reset()


def runs_of(lm, problems=PROBLEMS, num_particles=6):
    return SMC(program(lm), num_particles, ess_threshold=0.9).run_each(problems, seeds=range(len(problems)))


def assert_same(posteriors, others):
    for posterior, other in zip(posteriors, others, strict=True):
        assert posterior.texts.tolist() == other.texts.tolist()
        torch.testing.assert_close(posterior.log_evidence, other.log_evidence, rtol=0, atol=1e-4)
        assert posterior.cost.lm_tokens_forwarded == other.cost.lm_tokens_forwarded


def test_ragged_runs_are_those_of_the_uncompiled_model_in_few_graphs(llama_model, tokenizer, graphs):
    expected = runs_of(HFLanguageModel(llama_model, tokenizer))
    lm = HFLanguageModel(llama_model, tokenizer, compile=True)
    runs_of(lm, ["7"], num_particles=1)
    runs_of(lm, ["anna"], num_particles=2)
    made = graphs.frame_count
    assert 0 < made <= 4, "for a single row, and for any number of them"
    assert_same(runs_of(lm), expected)
    assert graphs.frame_count == made


def test_distributions_are_validated_as_before(llama_model, tokenizer, graphs, monkeypatch):
    """Torch turns validation off when it first compiles in a process; a NaN in a program would then be found late."""
    torch._dynamo.eval_frame.TorchPatcher.patch.cache_clear()
    SMC(program(HFLanguageModel(llama_model, tokenizer, compile=True)), 2).run("7")
    with pytest.raises(ValueError, match="loc"):
        pyro.distributions.Normal(torch.tensor(torch.nan), 1.0)


@pytest.mark.compile
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # inductor imports deprecated parts of torch
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_inductor(any_model, architecture, tokenizer):
    model = any_model(architecture)
    torch._dynamo.reset()
    assert_same(runs_of(HFLanguageModel(model, tokenizer, compile=True)), runs_of(HFLanguageModel(model, tokenizer)))


def test_a_copy_compiles_for_itself(llama_model, tokenizer, graphs):
    lm = copy.deepcopy(HFLanguageModel(llama_model, tokenizer, compile=True))
    assert SMC(program(lm), 3).run("7").texts.shape == (1, 3)
    assert lm._cached_model._compiled._model is lm.model


def test_what_cannot_be_compiled(llama_model, any_model, tokenizer):
    for mode in ("max-autotune", 1, None):
        with pytest.raises(OptionError, match="choose True"):
            HFLanguageModel(llama_model, tokenizer, compile=mode)
    with pytest.raises(OptionError, match="the model is on 'cpu'"):
        load_lm("abacus", compile="reduce-overhead")
    with pytest.raises(CapabilityError, match="with shared prompts"):
        HFLanguageModel(llama_model, tokenizer, compile=True, shared_prompts=False)
    with pytest.raises(CapabilityError, match="no recurrent state"):
        HFLanguageModel(any_model("falcon_h1"), tokenizer, compile=True)


def test_a_model_that_torch_cannot_trace(llama_model, tokenizer, graphs):
    broken = copy.deepcopy(llama_model)
    first = broken.model.layers[0].mlp
    forward = first.forward
    first.forward = lambda x: forward(x) if float(x.sum()) < 1e30 else x  # looks at a number on the host
    lm = HFLanguageModel(broken, tokenizer, compile=True)
    with pytest.raises(CapabilityError, match="cannot be compiled as one graph"):
        SMC(program(lm), 3).run("7")
