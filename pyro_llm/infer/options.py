"""Options of the particle algorithms, checked when an algorithm is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pyro_llm.errors import OptionError
from pyro_llm.ops.resampling import resampling_scheme

ParticleMode = Literal["vectorized", "scalar"]
ResamplingName = Literal["systematic", "multinomial"]


@dataclass(frozen=True)
class ParticleOptions:
    """What `SMC` and `Importance` are set to; see there.

    Raises:
        OptionError: an option has a value that it cannot have.
    """

    num_particles: int
    ess_threshold: float = 0.5
    num_runs: int = 1
    particles: ParticleMode = "vectorized"
    max_plate_nesting: int = 0
    resampling: ResamplingName = "systematic"

    def __post_init__(self) -> None:
        check_integer("num_particles", self.num_particles, at_least=1)
        check_integer("num_runs", self.num_runs, at_least=1)
        check_integer("max_plate_nesting", self.max_plate_nesting, at_least=0)
        threshold: Any = self.ess_threshold
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
            raise OptionError(
                f"ess_threshold={threshold!r}: give a fraction of the particles from 0 (never resample) to 1 (always)."
            )
        if self.particles not in get_args(ParticleMode):
            raise OptionError(f"particles={self.particles!r}: choose 'vectorized' or 'scalar'.")
        resampling_scheme(self.resampling)


def check_integer(name: str, value: Any, at_least: int) -> None:
    """Raise OptionError if `value` is not an integer of at least that size."""
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        hint = f", did you mean {int(value)}?" if isinstance(value, float) and math.isfinite(value) else ""
        raise OptionError(f"{name}={value!r}: give an integer of at least {at_least}{hint}")
