"""The most probable value of a distribution."""

from __future__ import annotations

from typing import Any

import torch
from pyro.distributions import Delta
from torch import Tensor

from pyro_llm.errors import NoModeError


def mode_of(fn: Any, name: str) -> Tensor:
    """The mode of the distribution of a site, in its batch and event shape: its `mode`; where it has none and its
    support can be enumerated, the value of the highest probability, the first of equals.

    Raises:
        NoModeError: there is none of these, or the mode is no number (a density that is unbounded, say).

    Example:
        >>> import pyro.distributions as dist
        >>> mode_of(dist.Binomial(4, torch.tensor([0.2, 0.7])), "heads")
        tensor([1., 3.])
    """
    mode = _declared(fn)
    if mode is None and getattr(fn, "has_enumerate_support", False) and not fn.event_shape:
        values = fn.enumerate_support(expand=True)
        best = fn.log_prob(values).argmax(0, keepdim=True)
        mode = values.gather(0, best).squeeze(0)
    if mode is None:
        raise NoModeError(
            f"Site {name!r} has a {type(fn).__name__}, which does not say what its most probable value is: it has no "
            "`mode`, and no support that could be enumerated. Give the distribution a property `mode`, or use an "
            "algorithm that samples, with one particle."
        )
    if mode.dtype.is_floating_point and bool(mode.isnan().any()):
        raise NoModeError(
            f"Site {name!r} has a {type(fn).__name__} without a mode for these parameters: its density is unbounded, "
            "or highest at several values."
        )
    return mode


def _declared(fn: Any) -> Tensor | None:
    if isinstance(fn, Delta):
        return fn.v
    if type(fn).__name__ in ("ExpandedDistribution", "MaskedDistribution"):  # Pyro's wrappers hand on no mode
        mode = _declared(fn.base_dist)
        return None if mode is None else mode.expand(fn.batch_shape + fn.event_shape)
    try:
        mode = fn.mode
    except (AttributeError, NotImplementedError):
        return None
    return mode if isinstance(mode, Tensor) else torch.as_tensor(mode)
