"""Checkpoints of a resumable loop, kept across the executions of a program."""

from __future__ import annotations

from collections.abc import MutableMapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

from pyro_llm.errors import DuplicateSiteError, OptionError, ReplayError
from pyro_llm.handlers.record import REPLAY_ADVICE, SiteRecord
from pyro_llm.handlers.structures import agree, copy_structure, tensors_of

CHECKED_REPLAYS = 2


class Resumable(Protocol):
    """What a loop needs of the engine that runs it."""

    record: SiteRecord

    @property
    def generation(self) -> int:
        """The number of resamplings so far."""
        ...

    def carry(self, value: Any, generation: int) -> Any:
        """A structure recorded in an earlier generation, for the present particles."""
        ...

    def resample_in_place(self) -> bool:
        """Resample if that is due, where the program holds values of particles only in what will be carried."""
        ...


@dataclass(frozen=True)
class _Checkpoint:
    t: int
    state: dict[str, Any]
    generation: int
    cursor: int


class LoopRecord:
    """The last two checkpoints of a loop.

    A restart re-enters at the last but one: the iteration in which the program was stopped may belong to texts that
    have died, and it is the end of the iteration before that tells (`if state.finished.all(): break`).
    """

    def __init__(self) -> None:
        self.last: _Checkpoint | None = None
        self.last_but_one: _Checkpoint | None = None
        self.replays = 0


class LoopRecords:
    """The loops of a program by name, and those that the present execution is in."""

    def __init__(self, engine: Resumable) -> None:
        self._engine = engine
        self._records: dict[str, LoopRecord] = {}
        self._met: set[str] = set()
        self._positions: list[_RecordedPosition] = []  # of the outermost loops of the present execution

    def fork(self, engine: Resumable) -> LoopRecords:
        """The same checkpoints for another engine, that goes on by itself."""
        other = LoopRecords(engine)
        other._records = {name: copy(record) for name, record in self._records.items()}
        return other

    def begin(self) -> None:
        """Start a new execution."""
        self._met = set()
        self._positions = []

    def end(self) -> None:
        """Check an execution that has ended normally.

        Raises:
            OptionError: it left a loop that was declared unbroken.
        """
        for position in self._positions:
            if position.broken:
                raise OptionError(
                    f"loop({position.name!r}, unbroken=True) was left before its last iteration, by `break`, `return` "
                    "or an exception. Leave `unbroken` out."
                )

    def enter(self, name: str) -> _RecordedPosition | None:
        """The position in an outermost loop; None, a plain loop, in one that is inside another."""
        if name in self._met:
            raise DuplicateSiteError(f"The loop {name!r} occurs twice in one execution. Give each a name of its own.")
        self._met.add(name)
        if self._positions and self._positions[-1].is_open:
            return None
        position = _RecordedPosition(name, self._records.setdefault(name, LoopRecord()), self._engine)
        self._positions.append(position)
        return position


class _RecordedPosition:
    """The place of one execution in a loop (see `LoopPosition`)."""

    def __init__(self, name: str, record: LoopRecord, engine: Resumable) -> None:
        self.name, self.is_open, self.broken = name, True, False
        self._record, self._engine = record, engine
        self._entering = True
        sites = engine.record.sites[: engine.record.cursor]
        self._holds_all = not any(site.kind == "latent" for site in sites)  # no variable from before has particles

    def checkpoint(self, t: int, state: MutableMapping[str, Any]) -> int:
        last = self._record.last
        if self._entering:
            self._entering = False
            if last is not None:
                self._record.replays += 1
                target = self._record.last_but_one
                if target is not None and self._record.replays > 1:  # the first replay is complete, to check the state
                    return self._resume(target, state)
        if last is None or t > last.t:
            snapshot = copy_structure(dict(state))
            self._record.last_but_one = last
            self._record.last = _Checkpoint(t, snapshot, self._engine.generation, self._engine.record.cursor)
        elif t == last.t and self._record.replays <= CHECKED_REPLAYS:
            self._compare(last, state)
        return t

    def resample(self, state: MutableMapping[str, Any]) -> None:
        before, last, sites = self._record.last_but_one, self._record.last, self._engine.record.sites
        if before is None or last is None or self._record.replays < CHECKED_REPLAYS or not self._holds_all:
            return
        at_the_frontier = last.cursor == self._engine.record.cursor == len(sites)
        began_with_latent = before.cursor < last.cursor and sites[before.cursor].kind == "latent"
        generation = self._engine.generation
        if at_the_frontier and began_with_latent and self._engine.resample_in_place():
            state.update(self._engine.carry(dict(state), generation))

    def close(self, broken: bool) -> None:
        self.is_open, self.broken = False, broken

    def _resume(self, target: _Checkpoint, state: MutableMapping[str, Any]) -> int:
        restored = copy_structure(self._engine.carry(target.state, target.generation))
        state.clear()
        state.update(restored)
        self._engine.record.jump(target.cursor)
        return target.t

    def _compare(self, last: _Checkpoint, state: MutableMapping[str, Any]) -> None:
        expected = self._engine.carry(last.state, last.generation)
        for key in {**expected, **state}:
            same_keys = key in expected and key in state
            if not same_keys or not _same(expected[key], state[key]):
                raise ReplayError(
                    f"loop({self.name!r}): before iteration {last.t}, state[{key!r}] is not what it was. Either an "
                    "iteration depends on a variable that is not in `state`, or this entry is a tensor whose leftmost "
                    "dimension only looks like that of the particles: keep what all particles share outside `state`. "
                    + REPLAY_ADVICE
                )


def _same(expected: Any, found: Any) -> bool:
    before, after = tensors_of(expected), tensors_of(found)
    declared = hasattr(expected, "map_tensors")  # such an object may trim its padding
    if len(before) != len(after):
        return False
    pairs = zip(before, after, strict=True)
    return all(agree(left, right) or (declared and left.shape != right.shape) for left, right in pairs)
