"""From the scores of steps to the score of a text: the one place where they are aggregated."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.rewards.log_odds import from_log_surprisal, log_surprisal, of_mixture

Aggregation = Literal["product", "min", "last", "mean", "model"]

DEFAULT_AGGREGATION: Aggregation = "last"
"""What every process reward does unless asked: the published score of the last step."""


def aggregate(log_odds: Tensor, aggregation: Aggregation) -> Tensor:
    r"""The log-odds of a text from those of its steps, with $r_i$ the probability of step $i$.

    - `"product"`: $\prod_i r_i$, the probability that all are right if each was judged given that those before it are
      (Lightman et al., arXiv 2305.20050);
    - `"min"`: $\min_i r_i$, a text is as good as its worst step (Wang et al., arXiv 2312.08935);
    - `"last"`: $r_T$, where a score is read as the value of the prefix (Snell et al., arXiv 2408.03314);
    - `"mean"`: $\frac{1}{T} \sum_i r_i$;
    - `"model"`: the reward model has read the text as one step (Puri et al., arXiv 2502.01618), and there is one score.

    No probability is formed on the way, so that none rounds to 0 or 1: log-odds of 60 stay log-odds of 60.

    Args:
        log_odds: of each step, the last dimension. Shape `[..., steps]`.
        aggregation: which.

    Returns:
        float64, shape `[...]`.

    Raises:
        OptionError: there is no such aggregation, or there are no steps.

    Example:
        >>> aggregate(torch.tensor([0.9, 0.5]).double().logit(), "product").sigmoid()
        tensor(0.4500, dtype=torch.float64)
    """
    check_aggregation(aggregation)
    log_odds = log_odds.double()
    if log_odds.shape[-1] == 0:
        raise OptionError("there are no step scores to aggregate")
    if aggregation in ("last", "model"):
        return log_odds[..., -1]
    if aggregation == "min":
        return log_odds.amin(-1)
    if aggregation == "mean":
        count = log_odds.shape[-1]
        equal = torch.full((count,), -math.log(count), dtype=torch.float64)
        return of_mixture(equal, log_odds.movedim(-1, 0))
    return from_log_surprisal(log_surprisal(log_odds).logsumexp(-1))


def check_aggregation(aggregation: Any) -> None:
    """Raise OptionError for an aggregation that does not exist."""
    if aggregation not in get_args(Aggregation):
        known = ", ".join(map(repr, get_args(Aggregation)))
        raise OptionError(f"There is no aggregation of step scores {aggregation!r}; choose one of {known}.")
