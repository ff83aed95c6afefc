"""Turning what Pyro and torch raise inside a program into errors that say what to do."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyro

from pyro_llm.errors import BatchedBranchError, NonFiniteWeightError, PlateNestingError, PyroLLMError
from pyro_llm.handlers.particle_messenger import PARTICLE_PLATE
from pyro_llm.handlers.record import Site
from pyro_llm.run_scope import current_run_scope

# What torch and NumPy say where one value is wanted. A tensor of a single element would do in each of these places.
_BATCHED_BRANCH = re.compile(
    "Boolean value of Tensor with more than one value"
    "|cannot be converted to Scalar"
    "|only one element tensors can be converted to Python scalars"
    "|only integer tensors of a single element can be converted to an index"
    r"|unsupported format string passed to Tensor\.__format__"
    "|must be (tuple of ints|int|Number), (not Tensor|but found element of type Tensor)"
    "|must be tuple of ints, ?but got Tensor"
    "|truth value of an array with more than one element is ambiguous"  # NumPy's, of texts
    "|can only convert an array of size 1 to a Python scalar"
    "|only (length-1|0-dimensional) arrays can be converted to Python scalars"
    r"|arange\(\) received an invalid combination of arguments - got \(Tensor"  # the size of a plate
)

# What torch and Pyro say where shapes do not fit together.
_SHAPES = re.compile(
    r"(The size of|The expanded size of the) tensor|[Ss]hape mismatch|shapes? cannot be (multiplied|broadcast)"
    "|not broadcastable|size mismatch|must match|is invalid for input of size|inconsistent tensor|[Ee]xpected size"
)


@contextmanager
def explained_factors(sites: Sequence[Site]) -> Iterator[None]:
    """Raise a typed error, from Pyro's own, where a program that has met `sites` gives NaN to `pyro.factor`."""
    try:
        yield
    except ValueError as error:
        if "Expected parameter log_factor" in str(error):
            name, place = _factor_name(error), f", after site {sites[-1].name!r}" if sites else ", its first site"
            raise NonFiniteWeightError(
                f"The log-factor that the program gives to `pyro.factor({name}, ...)` is NaN{place}. It must be a "
                "finite number or -inf (impossible): look at what it is computed from."
            ) from error
        raise


def _factor_name(error: BaseException) -> str:
    """The name of the factor in which the error arose; Pyro's message lacks it, as no site is met yet."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code is pyro.factor.__code__:
            return repr(frame.f_locals["name"])
    return "..."


@contextmanager
def explained_batching(max_plate_nesting: int, size: int = 0) -> Iterator[None]:
    """Execute a program for `size` particles at once; a typed error, from the original, where it is not fit for that.

    Within it the run's scope says that particles share the execution.
    """
    scope = current_run_scope()
    try:
        if scope is not None:
            scope.particles_share_execution = True
        yield
    except PyroLLMError:
        raise
    except (RuntimeError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        if _BATCHED_BRANCH.search(message):
            raise BatchedBranchError(
                f"The program treats a tensor that holds one value per particle, or an array of their texts, as a "
                f'single value ({message}). Use particles="scalar" of `SMC` or `Importance`, which then run the '
                "program once for each particle, or compute on whole tensors: `torch.where` in place of `if`, a mask "
                "in place of an early end."
            ) from error
        if PARTICLE_PLATE in message and isinstance(error, ValueError):
            raise PlateNestingError(
                f"A batch dimension of the program takes the place of the particles ({message}). Declare independent "
                "dimensions by `pyro.plate` and set max_plate_nesting to the number of plates that the program nests "
                f"(it is {max_plate_nesting}), or make them event dimensions by `.to_event`."
            ) from error
        if size > 1 and _SHAPES.search(message) and str(size) in re.findall(r"\d+", message):
            raise PlateNestingError(
                f"Shapes do not fit together ({message}), and {size} is the number of particles: every latent value "
                "has a dimension for them, left of the plates that max_plate_nesting counts. Put independent data "
                "into a `pyro.plate` and set max_plate_nesting to the number of plates that the program nests (it is "
                f"{max_plate_nesting}); let operations of the program's own, such as a matrix product, leave "
                'dimensions on the left alone; or run it once for each particle, particles="scalar" of `SMC` or '
                "`Importance`."
            ) from error
        raise
    finally:
        if scope is not None:
            scope.particles_share_execution = False
