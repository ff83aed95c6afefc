"""How large the comparisons are, and how often each is repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.runtime.timing import Timed, Work, alternate
from benchmarks.runtime.workload import ModelSize, Workload


@dataclass(frozen=True)
class Growth:
    """Along which sizes wall time is followed, and what is held fixed meanwhile."""

    particles: tuple[int, ...] = (4, 8, 16, 32, 64, 128, 256)
    steps: tuple[int, ...] = (4, 8, 16, 32, 64)
    prompt_length: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048, 4096)
    fixed: Workload = field(default_factory=lambda: Workload(particles=16, prompt_length=256, steps=4, step_tokens=8))


@dataclass(frozen=True)
class Plan:
    """Sizes and repeats.

    Attributes:
        workload: of most comparisons.
        long_prompt: tokens of the longer prompt.
        tokens: of the token-level comparison, one a step.
        memory: of the comparison of memory.
        growth: of the comparison over sizes.
        filter_particles: N of the Kalman program.
        filter_steps: T of the Kalman program.
        repeats: times that each contender is timed.
        tick: told what runs.
    """

    workload: Workload = field(default_factory=Workload)
    long_prompt: int = 1024
    tokens: int = 64
    memory: Workload = field(default_factory=lambda: Workload(particles=64, prompt_length=2048))
    growth: Growth = field(default_factory=Growth)
    filter_particles: int = 1024
    filter_steps: int = 200
    repeats: int = 3
    tick: Callable[[str], None] = lambda what: None

    @classmethod
    def full(cls, device: str = "cpu", repeats: int = 3, tick: Callable[[str], None] = lambda what: None) -> Plan:
        """The sizes of the table in the documentation."""
        fixed = Growth().fixed.with_(device=device)
        return cls(
            workload=Workload(device=device),
            memory=Workload(particles=64, prompt_length=2048, device=device),
            growth=Growth(fixed=fixed),
            repeats=repeats,
            tick=tick,
        )

    @classmethod
    def quick(cls, device: str = "cpu", repeats: int = 1, tick: Callable[[str], None] = lambda what: None) -> Plan:
        """Sizes that show that everything runs; their times mean nothing."""
        size = ModelSize(hidden=32, layers=2, heads=2, key_value_heads=1, context=256)
        tiny = Workload(particles=4, prompt_length=8, steps=2, step_tokens=3, model_size=size, device=device)
        return cls(
            workload=tiny,
            long_prompt=16,
            tokens=4,
            memory=tiny.with_(prompt_length=64),
            growth=Growth(particles=(2, 4), steps=(2, 4), prompt_length=(8, 16), fixed=tiny),
            filter_particles=64,
            filter_steps=20,
            repeats=repeats,
            tick=tick,
        )

    def alternate(self, contenders: Mapping[str, Callable[[], Work]], warm_up: bool = True) -> Timed:
        """Time contenders in turns; see `benchmarks.runtime.timing.alternate`."""
        return alternate(contenders, self.repeats, self.workload.device, warm_up, self.tick)
