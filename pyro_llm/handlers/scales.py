r"""Scaled latent sites: drawn from their distribution p, they count as $p^s$, and so weigh $p^{s - 1}$."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pyro_llm.errors import CapabilityError
from pyro_llm.handlers.messages import scaled


def is_scaled(msg: Any) -> bool:
    """Whether a site's log-probability counts another number of times than once (`poutine.scale`, a subsample)."""
    scale = msg["scale"]
    if msg["mask"] is False:
        return False
    return bool((scale != 1).any()) if isinstance(scale, Tensor) else scale != 1


def unscaled(msg: Any) -> Any:
    """The message of the site without its scale, its mask kept."""
    return {**msg, "scale": 1.0}


def factor_of_scale(msg: Any, log_prob: Tensor) -> Tensor:
    """The log-weight by which a scaled latent value counts beyond having been drawn, masked by the program's handlers.

    Args:
        msg: the message of the site.
        log_prob: of the value, neither scaled nor masked.
    """
    return scaled({**msg, "scale": msg["scale"] - 1}, log_prob)


def log_prob_of_draw(msg: Any) -> Tensor:
    """Log-probability of a scaled latent value by the law that it is drawn from, neither scaled nor masked.

    Raises:
        CapabilityError: the distribution has none.
    """
    fn = msg["fn"]
    try:
        # Where `log_prob` is of events that are more than one value (texts that begin so), this is of the value.
        log_prob: Tensor = getattr(fn, "log_prob_of_draw", fn.log_prob)(msg["value"], *msg["args"], **msg["kwargs"])
    except NotImplementedError as error:
        raise CapabilityError(
            f"Site {msg['name']!r} stands in a `poutine.scale` (or in a plate that subsamples), so that its value "
            f"weighs a power of its probability, and {type(fn).__name__} has no log_prob. Take the scale away from "
            "this site, or give the distribution a log_prob."
        ) from error
    return torch.as_tensor(log_prob)
