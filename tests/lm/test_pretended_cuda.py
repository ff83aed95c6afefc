"""The engine, the cache, the pool, the reward's reader and scoring on a CUDA device that is pretended.

`FakeTensorMode` has no numbers, so that a program ends where it first resamples. Here a tensor says that it is on a
CUDA device and holds its numbers on the CPU: what runs there gives the numbers of the CPU, operands on several devices
are refused as CUDA refuses them, and whatever would make the host wait is noted.
"""

import copy

import pyro
import pytest
import torch
from accelerate import dispatch_model
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from transformers import LlamaConfig, LlamaForTokenClassification

from pyro_llm.infer import SMC, ParticleGibbs
from pyro_llm.lm import PAD, Decoding, HFLanguageModel, SamplingKey, drawing
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import ProcessReward

CUDA = torch.device("cuda", 0)
WAITING = {"_local_scalar_dense", "nonzero", "_unique2", "unique_dim", "masked_select", "equal"}
COPYING = {"_to_copy", "copy_"}
INDEXING = {"index", "index_put_", "_index_put_impl_"}


class OnDevice(torch.Tensor):
    """A tensor that says it is on a device of its own."""

    @staticmethod
    def __new__(cls, held, device):
        if device.type == "mps" and held.dtype == torch.float64:
            raise TypeError("the MPS framework has no float64")
        sizes = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        # torch's own C++ code takes it for a meta tensor, for which no CUDA library is asked.
        made = torch.Tensor._make_wrapper_subclass(cls, held.shape, device="meta", **sizes)
        made.held, made.pretended = held, device
        return made

    device = property(lambda self: self.pretended)
    is_cuda = property(lambda self: self.pretended.type == "cuda")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise AssertionError(f"{function} was called where no device is pretended")


class Dispatch(TorchDispatchMode):
    """Every operation, carried out on the CPU."""

    def __init__(self, waits):
        super().__init__()
        self._mode_key = torch._C._TorchDispatchModeKey.FAKE  # torch does then not look for the CUDA library
        self.waits, self.last = waits, CUDA

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), function.overloadpacket.__name__
        given, shape = tree_flatten((args, kwargs))
        here = [value for value in given if isinstance(value, OnDevice)]
        elsewhere = [value for value in given if isinstance(value, torch.Tensor) and not isinstance(value, OnDevice)]
        goal = kwargs.get("device")
        self.last = here[0].device if here else self.last  # for what torch makes in the course of an operation
        to_host = name in COPYING and here and (goal == torch.device("cpu") or not isinstance(args[0], OnDevice))
        by_mask = name in INDEXING and any(index is not None and index.dtype == torch.bool for index in args[1])
        if here and (name in WAITING or to_host or by_mask):
            self.waits.append(name)
        if name in INDEXING:  # indices may be on the host, what is indexed and what is put there may not
            elsewhere = [value for value in (args[0], *args[2:3]) if not isinstance(value, OnDevice)]
        devices = {value.device for value in here}
        if here and name not in COPYING and (len(devices) > 1 or any(value.dim() for value in elsewhere)):
            raise RuntimeError(f"{name}: expected all tensors to be on the same device")
        if goal is not None:
            kwargs["device"] = torch.device("cpu")
            given, shape = tree_flatten((args, kwargs))
        held = [value.held if isinstance(value, OnDevice) else value for value in given]
        inner_args, inner_kwargs = tree_unflatten(held, shape)
        result = function(*inner_args, **inner_kwargs)
        stays = isinstance(args[0], OnDevice) if name == "copy_" else bool(here) if goal is None else goal.type != "cpu"
        if not stays:
            return result
        known = {id(inner): value for inner, value in zip(held, given, strict=True) if isinstance(value, OnDevice)}
        if name == "copy_":
            place = args[0].device
        else:
            place = self.last if goal is None or goal.type == "meta" else with_number(goal)

        def wrapped(value):
            return OnDevice(value, place) if isinstance(value, torch.Tensor) else value

        return tree_map(lambda out: known.get(id(out)) if id(out) in known else wrapped(out), result)


def with_number(device):
    return device if device.index is not None else torch.device(device.type, 0)


class Functions(TorchFunctionMode):
    """What asks for the CUDA library, or for the numbers, before anything is dispatched."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.Tensor.to:
            given = [*args[1:], *kwargs.values()]
            goals = [torch.device(value) for value in given if isinstance(value, str | torch.device)]
            goals += [value.device for value in given if isinstance(value, torch.Tensor)]
            if goals and goals[0].type != "cpu":
                dtype = next((value for value in given if isinstance(value, torch.dtype)), args[0].dtype)
                goal, tensor = with_number(goals[0]), args[0].detach().to(dtype)
                if tensor.device == goal:
                    return tensor
                return OnDevice(tensor.held if isinstance(tensor, OnDevice) else tensor, goal)
        if args and isinstance(args[0], OnDevice):
            if function is torch.Tensor.tolist:
                self.waits.append("tolist")
                return args[0].held.tolist()
            if function is torch.Tensor.new_tensor:
                return OnDevice(args[0].held.new_tensor(*args[1:], **kwargs), args[0].device)
        return function(*args, **kwargs)


class PretendedCuda:
    """A CUDA device for the length of a block; `waits` names what made the host wait for it."""

    def __init__(self):
        self.waits = []

    def __enter__(self):
        self._before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        self._modes = Functions(self.waits), Dispatch(self.waits)
        for mode in self._modes:
            mode.__enter__()
        return self

    def __exit__(self, *error):
        for mode in reversed(self._modes):
            mode.__exit__(*error)
        torch._C._set_only_lift_cpu_tensors(self._before)


def language_model(model, tokenizer, device, **options):
    model = copy.deepcopy(model)
    return HFLanguageModel(model if device is None else model.to(device), tokenizer, memory_budget=1 << 30, **options)


def spread(model):
    """Put the last layers and the head on a second device, as `device_map` does."""
    first, second = "cuda:0", "cuda:1"
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())  # where it was the embeddings' own
    names = [name for name, _ in model.model.named_children()]
    places = {f"model.{name}": second if "norm" in name else first for name in names if name != "layers"}
    count = len(model.model.layers)
    places |= {f"model.layers.{number}": first if 2 * number < count else second for number in range(count)}
    dispatch_model(model, {**places, "lm_head": second}, force_hooks=True)


def on_host(value):
    return value.cpu() if isinstance(value, torch.Tensor) else value


def ragged(lm):
    given = torch.tensor([[5, 6, 7], [5, PAD, PAD], [9, 8, PAD]], device=lm.device)
    return lm.prompt("tom has 4 pens").append(given)


def draw(state, decoding, seed=0):
    return state.session.sample(state.prefix(), decoding, SamplingKey(seed, torch.arange(3, device=state.lm.device)))


@pytest.mark.parametrize("shared_prompts", [True, False])
@pytest.mark.parametrize("where", ["cuda", "mps", "two GPUs"])
def test_drawing_and_scoring(spread_model, tokenizer, shared_prompts, where):
    """Also without float64, and with the layers on two devices."""

    def work(device, where=None):
        model = copy.deepcopy(spread_model)
        if where == "two GPUs":
            spread(model)
        lm = language_model(model, tokenizer, None if where == "two GPUs" else where, shared_prompts=shared_prompts)
        assert lm.device == device
        state = ragged(lm)
        drawn = draw(state, Decoding(6, stop=("a", "5"), top_p=0.95))
        assert drawn.tokens.device == drawn.log_prob.device == torch.device(device)
        state = state.append(drawn.tokens)
        state = state.map_tensors(lambda tensor, _: tensor[torch.tensor([2, 0, 0], device=device)])
        more = torch.tensor([[5, 6], [7, PAD], [8, 9]], device=device)
        results = [drawn.tokens, drawn.log_prob, state.session.score(state.prefix(), more, Decoding(2))]
        results.append(state.session.next_log_probs(state.append(more).prefix(), Decoding(1)))
        assert lm._cached_model.shares_prompts == shared_prompts
        return [on_host(result) for result in results]

    expected = work(torch.device("cpu"))
    with PretendedCuda():
        results = work(torch.device("cpu") if where == "mps" else CUDA, where)
    for result, right in zip(results, expected, strict=True):
        torch.testing.assert_close(result, right, rtol=0, atol=2e-5)


def waits_of(device, lm, max_tokens):
    state = ragged(lm)
    draw(state, Decoding(max_tokens))
    device.waits.clear()
    draw(state, Decoding(max_tokens), seed=1)
    return list(device.waits)


@pytest.fixture
def spread_model(double_model):
    return copy.deepcopy(double_model).float()


@pytest.fixture
def endless(llama_model, tokenizer):
    llama_model.generation_config.eos_token_id = tokenizer.eos_token = None
    return llama_model


def test_the_host_does_not_wait_within_the_token_loop(endless, tokenizer):
    with PretendedCuda() as device:
        lm = language_model(endless, tokenizer, CUDA)
        assert waits_of(device, lm, 3) == waits_of(device, lm, 7)


def test_a_wait_within_the_token_loop_is_noticed(endless, tokenizer, monkeypatch):
    right = drawing.draw
    monkeypatch.setattr(drawing, "draw", lambda log_probs, u: right(log_probs, u).clamp(min=int(u.sum() * 0)))
    with PretendedCuda() as device:
        lm = language_model(endless, tokenizer, CUDA)
        assert len(waits_of(device, lm, 7)) == len(waits_of(device, lm, 3)) + 4


def test_a_tensor_on_the_host_is_noticed(endless, tokenizer, monkeypatch):
    right = drawing.draw
    monkeypatch.setattr(drawing, "draw", lambda log_probs, u: right(log_probs, u) + torch.zeros(3, dtype=torch.long))
    with PretendedCuda(), pytest.raises(RuntimeError, match="same device"):
        draw(ragged(language_model(endless, tokenizer, CUDA)), Decoding(3))


@pytest.mark.parametrize("algorithm", ["SMC", "ParticleGibbs"])
def test_the_engine_with_a_process_reward(llama_model, tokenizer, algorithm):
    """Resampling, replay, and the keys and values of both models."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = LlamaConfig(**{**llama_model.config.to_dict(), "num_labels": 2})
        judge = LlamaForTokenClassification(config).eval()

    def work(device):
        lm = language_model(llama_model, tokenizer, device)
        reward = ProcessReward(copy.deepcopy(judge).to(device), tokenizer, memory_budget=1 << 30)
        program = ReasoningSSM(lm, reward, max_steps=3, max_tokens=5, stop=("a", "5"))
        pyro.set_rng_seed(0)
        if algorithm == "SMC":
            posterior = SMC(program, 6, ess_threshold=1.0).run("tom has 4 pens")
        else:
            posterior = ParticleGibbs(program, 4, 2, ancestor_sampling=True).run("tom has 4 pens")
        spent = posterior.cost.lm_tokens_forwarded, posterior.cost.reward_tokens
        return posterior.texts.tolist(), spent, on_host(posterior.log_weights)

    texts, spent, log_weights = work("cpu")
    with PretendedCuda():
        result = work(CUDA)
    assert result[:2] == (texts, spent)
    torch.testing.assert_close(result[2], log_weights, rtol=0, atol=1e-5)
