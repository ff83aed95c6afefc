"""What a comparison finds, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        measure: what was measured.
        values: one for each repeat.
        target: what it is to reach.
        bound: whether it is to be at most the target, or at least.
        unit: written behind each number.
    """

    measure: str
    values: list[float]
    target: float
    bound: Literal["at most", "at least"]
    unit: str = "×"

    @property
    def median(self) -> float:
        """The median over repeats."""
        return median(self.values)

    @property
    def met(self) -> bool:
        """Whether the median reaches the target."""
        return self.median <= self.target if self.bound == "at most" else self.median >= self.target


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes:
        figures: its rows of the table.
        work: the facts that all contenders share, checked while they ran.
        used: what each contender used for it.
        seconds: wall time of each repeat, by contender.
        details: anything else.
        machine: what it ran on.
    """

    figures: list[Figure]
    work: dict[str, Any] = field(default_factory=dict)
    used: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Comparison:
        """From what `asdict` made of one."""
        return cls(**{**data, "figures": [Figure(**figure) for figure in data["figures"]]})


def results_file(device: str) -> Path:
    """Where the results of a device are kept."""
    return RESULTS / f"runtime-{device.split(':')[0]}.json"


def load(path: Path) -> dict[str, Comparison]:
    """The comparisons in a file, by name; none if there is no file."""
    if not path.exists():
        return {}
    return {name: Comparison.from_json(data) for name, data in json.loads(path.read_text("utf-8")).items()}


def save(path: Path, comparisons: Mapping[str, Comparison]) -> None:
    """Write comparisons to a file, those that it has besides left as they are."""
    merged = {**load(path), **comparisons}
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({name: asdict(found) for name, found in sorted(merged.items())}, indent=1, default=float)
    path.write_text(text + "\n", "utf-8")
