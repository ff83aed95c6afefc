"""Handlers around a whole run, which do not reach its program."""

from __future__ import annotations

from typing import Any

from pyro.poutine.block_messenger import BlockMessenger
from pyro.poutine.condition_messenger import ConditionMessenger
from pyro.poutine.do_messenger import DoMessenger
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.equalize_messenger import EqualizeMessenger
from pyro.poutine.indep_messenger import IndepMessenger
from pyro.poutine.infer_config_messenger import InferConfigMessenger
from pyro.poutine.lift_messenger import LiftMessenger
from pyro.poutine.mask_messenger import MaskMessenger
from pyro.poutine.reparam_messenger import ReparamMessenger
from pyro.poutine.replay_messenger import ReplayMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.scale_messenger import ScaleMessenger
from pyro.poutine.substitute_messenger import SubstituteMessenger
from pyro.poutine.uncondition_messenger import UnconditionMessenger

from pyro_llm.errors import OuterHandlerError
from pyro_llm.handlers.particle_messenger import PARTICLE_PLATE

# Those of Pyro's that change which values a program has, or what they count.
_CHANGING: dict[type, str] = {
    ConditionMessenger: "poutine.condition",
    DoMessenger: "poutine.do",
    EnumMessenger: "poutine.enum",
    EqualizeMessenger: "poutine.equalize",
    IndepMessenger: "pyro.plate",
    InferConfigMessenger: "poutine.infer_config",
    LiftMessenger: "poutine.lift",
    MaskMessenger: "poutine.mask",
    ReparamMessenger: "poutine.reparam",
    ReplayMessenger: "poutine.replay",
    ScaleMessenger: "poutine.scale",
    SubstituteMessenger: "poutine.substitute",
    UnconditionMessenger: "poutine.uncondition",
}


def check_no_handlers_around(algorithm: str) -> None:
    """Raise OuterHandlerError inside a handler that was meant for the program of a run that begins now.

    Others (`trace`, `seed`, ...) change nothing and pass, and so does whatever stands outside a `poutine.block()`, or
    around a run that is part of another run's program. There it is an error if that program is executed once for all
    particles.
    """
    if any(getattr(handler, "name", None) == PARTICLE_PLATE for handler in _PYRO_STACK):
        raise OuterHandlerError(
            f"{algorithm} was run inside the program of another run, which executes it once for all particles. Give "
            'that one particles="scalar" (of `SMC` or `Importance`), so that each particle has a run of its own.'
        )
    if any(type(handler).__module__.startswith("pyro_llm.handlers.") for handler in _PYRO_STACK):
        return
    for handler in reversed(_PYRO_STACK):
        if isinstance(handler, BlockMessenger) and _hides_all(handler):
            return
        for changing, name in _CHANGING.items():
            if isinstance(handler, changing):
                place = "inside the program" if name == "pyro.plate" else f"around the program: {name}(model, ...)"
                raise OuterHandlerError(
                    f"{algorithm} was run inside `{name}`, which does not reach its program. Put it {place}. If it is "
                    "not meant for this program, run it inside `poutine.block()`."
                )


def _hides_all(block: Any) -> bool:
    """Whether it hides a site of any name."""
    site = {"type": "sample", "name": "", "is_observed": False, "infer": {}, "value": None, "fn": None}
    try:
        return bool(block.hide_fn(site))
    except Exception:  # a function of the user's, which looks at something else
        return False
