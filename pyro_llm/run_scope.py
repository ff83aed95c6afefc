"""What lives exactly as long as one inference run: KV sessions, reward caches, the count of its cost.

An algorithm opens a scope around a run; language models and rewards keep what they must remember in it. So two runs on
one model share nothing, replaying a program finds its caches again, and the inference engine needs to know neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

Resource = TypeVar("Resource")


@dataclass
class Cost:
    """What a run has spent.

    Attributes:
        lm_calls: forward passes of language models that served this run, and maybe others beside it.
        lm_tokens_forwarded: tokens that went through a language model, prompt included, padding not.
        lm_tokens_sampled: tokens drawn from a language model.
        reward_calls: forward passes of reward models that served this run, or calls of reward functions.
        reward_tokens: tokens that went through reward models (0 for functions of text). Those of a pass that served
            several runs are divided among them in proportion to their texts.
        seconds: wall-clock time of the run; of runs made together, others' turns included.
        peak_memory_bytes: keys, values and states of language models that the run held at most.
        peak_device_bytes: memory of an accelerator that this process had in use at most, weights included, since the
            run began; 0 where the device does not tell.
    """

    lm_calls: int = 0
    lm_tokens_forwarded: int = 0
    lm_tokens_sampled: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    peak_device_bytes: int = 0


@dataclass
class RunScope:
    """The resources of one run, by their owner.

    Attributes:
        cost: what the run has spent so far.
        key: identifies the run without keeping its resources alive.
    """

    cost: Cost = field(default_factory=Cost)
    key: object = field(default_factory=object, repr=False)
    _resources: dict[int, tuple[object, object]] = field(default_factory=dict, repr=False)

    def resource(self, owner: object, create: Callable[[], Resource]) -> Resource:
        """The resource that `owner` keeps in this run; `create` makes it when first asked for."""
        if id(owner) not in self._resources:
            self._resources[id(owner)] = (owner, create())  # holding the owner keeps its id its own
        return self._resources[id(owner)][1]  # type: ignore[return-value]


_current: ContextVar[RunScope | None] = ContextVar("pyro_llm_run_scope", default=None)


def current_run_scope() -> RunScope | None:
    """The scope of the run in progress, or None outside any."""
    return _current.get()


@contextmanager
def run_scope(scope: RunScope | None = None) -> Iterator[RunScope]:
    """Open a scope for one run; it and all its resources end with the block. Or go on in a scope that there is."""
    scope = RunScope() if scope is None else scope
    token = _current.set(scope)
    try:
        yield scope
    finally:
        _current.reset(token)


@contextmanager
def passes_count_for(costs: Iterable[Cost]) -> Iterator[None]:
    """Count the forward passes of a block for each of several runs: it works for all of them at once.

    Tokens, which belong to one run each, are for the block to count.
    """
    with run_scope() as scope:
        yield
    for cost in costs:
        cost.lm_calls += scope.cost.lm_calls
        cost.reward_calls += scope.cost.reward_calls


def current_cost() -> Cost:
    """The cost of the run in progress; outside any, a counter that nobody reads."""
    scope = current_run_scope()
    return scope.cost if scope is not None else Cost()
