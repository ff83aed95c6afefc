"""When to resample: rules that look at the log-weights of each run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.ops.weights import effective_sample_size

ResamplingRule = Callable[[Tensor], Tensor]
"""Maps log-weights, float64 `[R, N]`, to the runs that are to be resampled, bool `[R]`."""


def ess_below(threshold: float) -> ResamplingRule:
    """The rule that resamples runs whose effective sample size is below a fraction of N: 0 is never, 1 always.

    >>> ess_below(0.6)(torch.tensor([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]]).log())
    tensor([False, False,  True])
    """

    def rule(log_weights: Tensor) -> Tensor:
        if threshold in (0, 1):
            return torch.full(log_weights.shape[:1], threshold == 1)
        return effective_sample_size(log_weights) < threshold * log_weights.shape[-1]

    return rule


def checked(rule: ResamplingRule) -> ResamplingRule:
    """A user's rule, whose answer is checked; it cannot change the weights.

    Raises:
        OptionError: (when called) the rule returned something other than a bool tensor of shape `[R]`.
    """

    def checked_rule(log_weights: Tensor) -> Tensor:
        answer = rule(log_weights.clone())
        num_runs = log_weights.shape[0]
        if not isinstance(answer, Tensor) or answer.dtype != torch.bool or answer.shape != (num_runs,):
            found = f"a {type(answer).__name__}"
            if isinstance(answer, Tensor):
                found = f"a tensor of shape {list(answer.shape)} and {answer.dtype}"
            raise OptionError(
                f"resample_when returned {found}. From log-weights of shape [R, N] = {list(log_weights.shape)} it must "
                f"make a bool tensor of shape [{num_runs}], which says of each run whether to resample it."
            )
        return answer.cpu()

    return checked_rule
