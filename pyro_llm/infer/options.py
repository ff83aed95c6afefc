"""Options of the particle algorithms, checked when an algorithm is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pyro_llm.errors import OptionError
from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.resampling_rule import ResamplingRule
from pyro_llm.validation import as_integer

ParticleMode = Literal["vectorized", "scalar"]
ResamplingName = Literal["systematic", "multinomial", "stratified", "residual", "ssp", "killing", "optimal"]
DEFAULT_ESS_THRESHOLD = 0.5


@dataclass(frozen=True)
class ParticleOptions:
    """What `SMC` and `Importance` are set to; see there.

    Raises:
        OptionError: an option has a value that it cannot have.
    """

    num_particles: int
    ess_threshold: float = DEFAULT_ESS_THRESHOLD
    num_runs: int = 1
    particles: ParticleMode = "vectorized"
    max_plate_nesting: int = 0
    resampling: ResamplingName = "systematic"
    resample_when: ResamplingRule | None = None
    island_threshold: float | None = None

    def __post_init__(self) -> None:
        set_integers(self, num_particles=1, num_runs=1, max_plate_nesting=0)
        if not _is_fraction(self.ess_threshold):
            raise OptionError(
                f"ess_threshold={self.ess_threshold!r}: give a fraction of the particles from 0 (never resample) to 1 "
                "(always); a rule of your own is `resample_when`."
            )
        if self.particles not in get_args(ParticleMode):
            raise OptionError(f"particles={self.particles!r}: choose 'vectorized' or 'scalar'.")
        resampling_scheme(self.resampling)
        self._check_rule()
        self._check_islands()

    def settings(self) -> dict[str, Any]:
        """The options as they are reported: without those that are not in use, functions by their names."""
        settings = {name: getattr(self, name) for name in self.__dataclass_fields__}
        if self.resample_when is not None:
            del settings["ess_threshold"]
            settings["resample_when"] = getattr(self.resample_when, "__qualname__", None) or repr(self.resample_when)
        return {name: value for name, value in settings.items() if value is not None}

    def _check_rule(self) -> None:
        if self.resample_when is None:
            return
        if not callable(self.resample_when):
            raise OptionError(
                f"resample_when={self.resample_when!r}: give a function of the log-weights [R, N] that says of each "
                "run whether to resample it, a bool tensor [R]; for a fraction there is `ess_threshold`."
            )
        if self.ess_threshold != DEFAULT_ESS_THRESHOLD:
            raise OptionError(f"Give either ess_threshold={self.ess_threshold!r} or resample_when, not both.")

    def _check_islands(self) -> None:
        if self.island_threshold is None:
            return
        if not _is_fraction(self.island_threshold):
            raise OptionError(
                f"island_threshold={self.island_threshold!r}: give a fraction of the runs from 0 (never exchange them) "
                "to 1 (always), or None."
            )
        if self.num_runs == 1:
            raise OptionError("island_threshold: a single run has no other to be exchanged with; set num_runs.")


def _is_fraction(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= 1


def check_integer(name: str, value: Any, at_least: int) -> int:
    """The integer that `value` is; raises OptionError if it is none of at least that size."""
    integer = as_integer(value)
    if integer is None or integer < at_least:
        hint = f", did you mean {int(value)}?" if isinstance(value, float) and math.isfinite(value) else ""
        raise OptionError(f"{name}={value!r}: give an integer of at least {at_least}{hint}")
    return integer


def set_integers(options: Any, **at_least: int) -> None:
    """Put plain integers in the place of these fields of frozen options, checked by `check_integer`."""
    for name, least in at_least.items():
        object.__setattr__(options, name, check_integer(name, getattr(options, name), least))


def check_fraction(name: str, value: Any) -> None:
    """Raise OptionError if `value` is not a number from 0 to 1."""
    if not _is_fraction(value):
        raise OptionError(f"{name}={value!r}: give a fraction from 0 to 1.")
