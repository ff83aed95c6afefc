"""Bytes of keys and values that a run holds, against one copy of the prompt a particle."""

from __future__ import annotations

import gc
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedTokenizerBase

from benchmarks.runtime.bare_loop import decode
from benchmarks.runtime.model_use import plain_attention, watch
from benchmarks.runtime.plan import Plan
from benchmarks.runtime.reasoning import smc_work, text_work
from benchmarks.runtime.results import Comparison, Figure
from benchmarks.runtime.timing import Work, check_equal
from benchmarks.runtime.workload import Workload
from pyro_llm.lm import HFLanguageModel

LEFT_OUT = (
    *(type, ModuleType, FunctionType, BuiltinFunctionType, CodeType),
    *(torch.nn.Module, PreTrainedTokenizerBase, HFLanguageModel),
)
"""Not looked into: what is not a run's own."""


def tensor_bytes(*roots: Any) -> int:
    """Bytes of all distinct tensor storages that can be reached from objects, the model's parameters left out.

    Room that is allocated and not yet written counts.
    """
    stack, seen, storages = list(roots), set(), {}
    while stack:
        found = stack.pop()
        if id(found) in seen or isinstance(found, LEFT_OUT):
            continue
        seen.add(id(found))
        if isinstance(found, torch.Tensor):
            storages[found.untyped_storage().data_ptr()] = found.untyped_storage().nbytes()
        else:
            stack.extend(gc.get_referents(found))
    return sum(storages.values())


class Gauge:
    """Looks, after each forward pass of a model, at what its sessions and the pass hold, and keeps the most."""

    def __init__(self, workload: Workload) -> None:
        self.workload, self.most = workload, 0

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """A forward hook."""
        self.most = max(self.most, tensor_bytes(self.workload.lm.memory.caches, kwargs))


def compare(plan: Plan) -> Comparison:
    """The peak of a bare loop whose rows all hold the prompt, over the peak of SMC."""
    workload = plan.memory
    most: dict[str, int] = {}

    def gauged(name: str, run: Any) -> Work:
        plan.tick(name)
        gauge = Gauge(workload)
        hook = workload.lm.model.register_forward_hook(gauge, with_kwargs=True)
        try:
            work = run()
        finally:
            hook.remove()
        most[name] = gauge.most
        return work

    def copies() -> Work:
        with plain_attention(workload.lm.model), watch(workload.lm.model) as use:
            tokens = decode(workload)
        steps = tokens.shape[1] // workload.step_tokens
        return text_work(workload, use, workload.prompt_tokens, len(tokens), steps, tokens.numel())

    work = {
        "one copy a particle": gauged("one copy a particle", copies),
        "pyro_llm": gauged("pyro_llm", lambda: smc_work(workload)),
    }
    check_equal(work)
    tokens = workload.prompt_length + workload.steps * workload.step_tokens
    expected = (tokens - 1) * workload.particles * _bytes_a_token(workload)
    copied, ours = most["one copy a particle"], most["pyro_llm"]
    if copied != expected:
        raise AssertionError(f"one copy a particle takes {expected} bytes, and {copied} were found")
    measure = (
        f"Peak memory of keys and values, N={workload.particles}, prompt {workload.prompt_length}, "
        f"{workload.steps * workload.step_tokens} new tokens: one copy of the prompt a particle over ours"
    )
    shared = {name: fact for name, fact in work["pyro_llm"].items() if not name.startswith("used_")}
    figure = Figure(measure, [copied / ours], target=8.0, bound="at least")
    return Comparison([figure], work=shared, details={"peak_bytes": most})


def _bytes_a_token(workload: Workload) -> int:
    """Keys and values of one token in all layers."""
    cache = DynamicCache(config=workload.lm.model.config)
    with torch.no_grad():
        workload.lm.model(torch.zeros(1, 1, dtype=torch.long, device=workload.lm.device), past_key_values=cache)
    return tensor_bytes(cache)
