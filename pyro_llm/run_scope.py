"""What lives exactly as long as one inference run: KV sessions, reward caches, the count of its cost, its budget.

An algorithm opens a scope around a run; language models and rewards keep what they must remember in it. So two runs on
one model share nothing, replaying a program finds its caches again, and the inference engine needs to know neither.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from pyro_llm.budget import Budget

Resource = TypeVar("Resource")


@dataclass
class Cost:
    """What a run has spent. Costs can be added: what is held at most is then the most that any of them held.

    Attributes:
        generations: texts begun, as budgets are counted in the literature: executions of the program from its
            beginning, one for each particle of a filter, whatever resampling does with them later; in each iteration of
            particle Gibbs but the first, one less in each chain, as the reference is not written anew.
        lm_calls: forward passes of language models that served this run, and maybe others beside it.
        lm_tokens_forwarded: tokens that went through a language model, prompt included, padding not.
        lm_tokens_read: those of them that the language model read without having drawn them in this run: the prompt,
            text that is given, and whatever is read once more, such as texts of its own that it had forgotten. Counted
            by sessions; in the cost of a posterior it is `lm_tokens_input` where none of them did.
        lm_tokens_sampled: tokens drawn from a language model.
        steps_sampled: steps drawn from `LLM` sites that have a stop string.
        steps_truncated: those of them that reached `max_tokens` before they had ended.
        reward_calls: forward passes of reward models that served this run, or calls of reward functions.
        reward_tokens: tokens that went through reward models (0 for functions of text). Those of a pass that served
            several runs are divided among them in proportion to their texts.
        seconds: wall-clock time of the run; of runs made together, others' turns included.
        peak_memory_bytes: keys, values and states that language models and reward models held for the run at most. What
            a reward model holds for several runs made together counts for each of them.
        peak_device_bytes: memory of an accelerator that this process had in use at most, weights included, since the
            run began; 0 where the device does not tell.

    Example:
        >>> Cost(reward_calls=2, peak_memory_bytes=5) + Cost(reward_calls=3, peak_memory_bytes=4) == Cost(
        ...     reward_calls=5, peak_memory_bytes=5
        ... )
        True
    """

    lm_calls: int = 0
    lm_tokens_forwarded: int = 0
    lm_tokens_read: int = 0
    lm_tokens_sampled: int = 0
    steps_sampled: int = 0
    steps_truncated: int = 0
    reward_calls: int = 0
    reward_tokens: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    peak_device_bytes: int = 0
    generations: int = 0

    @classmethod
    def restored(cls, numbers: Mapping[str, Any]) -> Cost:
        """The cost that was stored as these numbers.

        Where tokens read were not counted yet, they are those forwarded beyond those sampled: less than were read, by
        one for each text that ended with EOS, which is sampled and not forwarded.

        Example:
            >>> Cost.restored({"lm_tokens_forwarded": 30, "lm_tokens_sampled": 12}).lm_tokens_read
            18
        """
        return cls(**{"lm_tokens_read": cls(**numbers).lm_tokens_input, **numbers})

    @property
    def lm_tokens(self) -> int:
        """Tokens that language models read or wrote: `lm_tokens_input` and `lm_tokens_sampled`."""
        return self.lm_tokens_input + self.lm_tokens_sampled

    @property
    def lm_tokens_input(self) -> int:
        """Tokens that are paid as input: `lm_tokens_read`, or those forwarded beyond those sampled if none was counted.

        The latter is of sessions that count no reading, as those of a language model of the user's own may. Where
        reading is counted and none was, nothing is forwarded but what was sampled, and both are 0.
        """
        return self.lm_tokens_read or max(self.lm_tokens_forwarded - self.lm_tokens_sampled, 0)

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(**{
            name: (max if name.startswith("peak_") else sum)((getattr(self, name), getattr(other, name)))
            for name in (item.name for item in fields(self))
        })  # fmt: skip

    def __radd__(self, other: int) -> Cost:
        """So that `sum` adds costs."""
        return self if other == 0 else NotImplemented


class BudgetSpent(BaseException):
    """Leaves a program whose run has spent its budget. No `Exception`: an `except Exception` must not swallow it.

    Attributes:
        scope: that of the run.
    """

    def __init__(self, scope: RunScope) -> None:
        super().__init__(f"the budget of the run is spent: {scope.stopped_by}")
        self.scope = scope


@dataclass(eq=False)
class RunScope:
    """The resources of one run, by their owner.

    Attributes:
        budget: what the run may spend.
        cost: what the run has spent so far.
        stopped_by: the item of the budget that is spent, or `"reward"` if one has failed; None as long as none is.
        unended: why the program could not be brought to its end after that; None if it could.
        noted: what statements of the program have told of the run, for the settings of its posterior.
        key: identifies the run without keeping its resources alive.
        began: when, by the clock that measures `seconds`.
        passes_on: where several runs have work done together, in a scope of its own: claims what is claimed here, given
            as what has been spent here and what is to be, from those runs.
        kept_from_reward: within `charged_to_reward`, the language model's calls, tokens forwarded and tokens read
            before that, which are not the reward's.
        particles_share_execution: whether the program is being executed once for all particles.
    """

    budget: Budget | None = None
    cost: Cost = field(default_factory=Cost)
    stopped_by: str | None = None
    unended: str | None = None
    noted: dict[str, object] = field(default_factory=dict)
    key: object = field(default_factory=object, repr=False)
    began: float = field(default_factory=time.perf_counter, repr=False)
    passes_on: Callable[[Cost], None] | None = field(default=None, repr=False)
    kept_from_reward: tuple[int, int, int] | None = field(default=None, repr=False)
    particles_share_execution: bool = False
    _resources: dict[int, tuple[object, object]] = field(default_factory=dict, repr=False)
    _held: dict[int, int] = field(default_factory=dict, repr=False)

    def resource(self, owner: object, create: Callable[[], Resource]) -> Resource:
        """The resource that `owner` keeps in this run; `create` makes it when first asked for."""
        if id(owner) not in self._resources:
            self._resources[id(owner)] = (owner, create())  # holding the owner keeps its id its own
        return self._resources[id(owner)][1]  # type: ignore[return-value]

    @property
    def held_bytes(self) -> int:
        """Keys, values and states that are held now, by all owners."""
        return sum(self._held.values())

    def note_held(self, owner: object, size: int) -> None:
        """Note how many bytes an owner, which lives as long as the scope, holds now."""
        self._held[id(owner)] = size
        self.cost.peak_memory_bytes = max(self.cost.peak_memory_bytes, self.held_bytes)

    def claim(self, **amounts: int) -> None:
        """Ask for what the work that comes next will cost; whoever does it counts it when it is done.

        Args:
            **amounts: by the attributes of `Cost`.

        Raises:
            BudgetSpent: with it the run would exceed its budget, or it has ended by that before.
        """
        if self.passes_on is not None:
            self.passes_on(self._with(amounts))
        if self.stopped_by is None:
            self.stopped_by = self._exceeded_by(amounts)
        if self.stopped_by is not None:
            raise BudgetSpent(self)

    def allows(self, **amounts: int) -> bool:
        """Whether that could be claimed."""
        return self.stopped_by is None and self._exceeded_by(amounts) is None

    def _exceeded_by(self, amounts: dict[str, int]) -> str | None:
        return None if self.budget is None else self.budget.exceeded_by(self._with(amounts))

    def _with(self, amounts: dict[str, int]) -> Cost:
        """What the run will have spent then."""
        spent = Counter(vars(self.cost))
        spent.update(amounts)
        spent["seconds"] = time.perf_counter() - self.began  # type: ignore[assignment]
        if self.kept_from_reward is not None:
            calls, tokens, read = self.kept_from_reward
            spent["reward_calls"] += spent["lm_calls"] - calls
            spent["reward_tokens"] += spent["lm_tokens_forwarded"] - tokens
            spent["lm_calls"], spent["lm_tokens_forwarded"], spent["lm_tokens_read"] = calls, tokens, read
        return Cost(**spent)


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
def passes_count_for(scopes: Sequence[RunScope], claimed: bool = False) -> Iterator[None]:
    """Count the forward passes of a block for each of several runs: it works for all of them at once.

    Tokens, which belong to one run each, are for the block to count.

    Args:
        scopes: of the runs.
        claimed: whether the passes have been claimed, so that nothing will be within the block.
    """

    def claim(spent: Cost) -> None:
        for each in scopes:
            each.claim(lm_calls=spent.lm_calls, reward_calls=spent.reward_calls)

    shared = RunScope(passes_on=None if claimed else claim)
    try:
        with run_scope(shared):
            yield
    finally:  # what has failed has been spent all the same
        for each in scopes:
            each.cost.lm_calls += shared.cost.lm_calls
            each.cost.reward_calls += shared.cost.reward_calls


def note_held(owner: object, size: int) -> None:
    """Note how many bytes an owner holds now for the run in progress, if there is one."""
    scope = current_run_scope()
    if scope is not None:
        scope.note_held(owner, size)


def spending_scope() -> RunScope:
    """The scope of the run in progress; outside any, one that nobody reads."""
    return current_run_scope() or RunScope()


def current_cost() -> Cost:
    """The cost of the run in progress; outside any, a counter that nobody reads."""
    return spending_scope().cost


def claim(**amounts: int) -> None:
    """Ask for what the work that comes next will cost the run in progress; see `RunScope.claim`."""
    scope = current_run_scope()
    if scope is not None:
        scope.claim(**amounts)


def begin_generations(count: int) -> None:
    """Claim and count executions of the program that begin now."""
    claim(generations=count)
    current_cost().generations += count


def budget_is_spent() -> bool:
    """Whether the run in progress has spent its budget, so that nothing more may be written."""
    scope = current_run_scope()
    return scope is not None and scope.stopped_by is not None
