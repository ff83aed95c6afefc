"""What an execution of a program did, site by site, to be held against its replays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from pyro_llm.errors import DuplicateSiteError, ReplayError

SiteKind = Literal["latent", "observed", "deterministic", "subsample", "twist"]

REPLAY_ADVICE = (
    "A program is replayed after resampling and must then repeat itself: given the values of its latent sites, nothing "
    "may depend on anything else that changes (a global counter, an iterator that an earlier execution used up, a "
    "tensor changed in place, the clock)."
)


@dataclass(eq=False)
class Site:
    """A site as it was first met.

    Attributes:
        name: the name of the site.
        kind: what it is; `"subsample"` is the subsample of a plate, `"twist"` no sample site but a declared potential.
        value: its value, in generation `generation`.
        generation: the number of resamplings before `value`.
        met: the number of resamplings before the site was first met.
        event_dim: event dimensions of the value, None if not known.
        per_particle: whether each particle has a value of its own.
        plate_nesting: how far its plates reach to the left, that of the particles apart: `-dim` of the leftmost, or 0.
        log_prob: of a latent site, the log-probability of each particle's value, in generation `met`. `[P]`.
        step: of an observed site, or a scaled latent one, the index of its step.
        fn: its distribution, kept as long as replays are compared with it.
        shared: of its distribution, what all particles share, by name.
        drawn: the value as it was first met, where the distribution can `decode` it into text.
        decode: its distribution's, from token ids to text.
    """

    name: str
    kind: SiteKind
    value: Any
    generation: int = 0
    met: int = 0
    event_dim: int | None = None
    per_particle: bool = True
    plate_nesting: int = 0
    log_prob: Tensor | None = None
    step: int | None = None
    fn: Any = None
    shared: dict[str, Any] = field(default_factory=dict)
    drawn: Any = None
    decode: Callable[[list[int]], str] | None = None

    def __post_init__(self) -> None:
        self._version = _version(self.value)

    def replace_value(self, value: Any, generation: int) -> None:
        """Put the value of a later generation in the place of the present one."""
        self.value, self.generation, self._version = value, generation, _version(value)

    def check_unchanged(self) -> None:
        """Raise ReplayError if the program has changed the value in place."""
        if _version(self.value) != self._version:
            raise ReplayError(
                f"The program changed the value of site {self.name!r} in place. Make a new tensor instead "
                f"(`x = x + 1`, not `x += 1`). {REPLAY_ADVICE}"
            )


def _version(value: Any) -> int:
    return value._version if isinstance(value, Tensor) and not value.is_inference() else 0


class SiteRecord:
    """The sites of a program in the order it first met them, and the position of the present execution among them.

    Args:
        may_skip: whether a replay may leave out a recorded site. A replay that finds all texts finished may end a loop
            earlier than the execution before it, and is right to do so if what it leaves out carries no factor.
    """

    def __init__(self, may_skip: Callable[[Site], bool]) -> None:
        self.sites: list[Site] = []
        self.cursor = 0
        self._index: dict[str, int] = {}
        self._skipped: set[int] = set()
        self._may_skip = may_skip

    def fork(self) -> SiteRecord:
        """The same sites, in a record that goes on by itself."""
        other = SiteRecord(self._may_skip)
        other.sites, other._index = list(self.sites), dict(self._index)
        return other

    def get(self, name: str) -> Site | None:
        """The site of that name, if it is recorded."""
        index = self._index.get(name)
        return None if index is None else self.sites[index]

    def begin(self) -> None:
        """Start a new execution."""
        self.cursor = 0
        self._skipped = set()

    def visit(self, name: str, kind: SiteKind) -> Site | None:
        """The site as recorded, or None if it is new.

        Raises:
            DuplicateSiteError: the present execution has met the name before.
            ReplayError: the present execution does not repeat what is recorded.
        """
        index = self._index.get(name, len(self.sites))
        if index < self.cursor:
            if index not in self._skipped:
                raise DuplicateSiteError(
                    f"The site {name!r} occurs twice in one execution of the program. Give each site a name of its "
                    'own, such as f"step_{t}" in a loop.'
                )
            raise ReplayError(f"On replay, site {name!r} was met later than at first. {REPLAY_ADVICE}")
        if index > self.cursor:
            self._skip_to(index, name)
        if index == len(self.sites):
            return None
        self.cursor = index + 1
        site = self.sites[index]
        if site.kind != kind:
            raise ReplayError(f"Site {name!r} was {site.kind} at first and {kind} on replay. {REPLAY_ADVICE}")
        return site

    def add(self, site: Site) -> None:
        """Record a new site at the end."""
        self._index[site.name] = len(self.sites)
        self.sites.append(site)
        self.cursor = len(self.sites)

    def jump(self, cursor: int) -> None:
        """Continue behind the first `cursor` sites, as if they had been replayed."""
        self.cursor = max(self.cursor, cursor)

    def end(self) -> None:
        """Check what the execution left out, now that it has ended."""
        if self.cursor < len(self.sites):
            self._skip_to(len(self.sites), None)

    def _skip_to(self, index: int, next_name: str | None) -> None:
        for position in range(self.cursor, index):
            if not self._may_skip(self.sites[position]):
                met = "the program ended" if next_name is None else f"site {next_name!r} was met"
                raise ReplayError(
                    f"On replay, {met} where site {self.sites[position].name!r} was met at first. {REPLAY_ADVICE}"
                )
            self._skipped.add(position)
        self.cursor = index
