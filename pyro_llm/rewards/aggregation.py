"""From the scores of steps to the score of a text: the one place where they are aggregated."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from pyro_llm.errors import OptionError

Aggregation = Literal["product", "min", "last", "mean", "model"]

DEFAULT_AGGREGATION: Aggregation = "last"
"""What every process reward does unless asked: the published score of the last step."""

_SMALL = -30.0  # below this exponent, exp(x) is so small that 1 - exp(-exp(x)) is exp(x) to double precision


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
        return logsigmoid(log_odds).logsumexp(-1) - logsigmoid(-log_odds).logsumexp(-1)
    return _product(log_odds)


def check_aggregation(aggregation: Any) -> None:
    """Raise OptionError for an aggregation that does not exist."""
    if aggregation not in get_args(Aggregation):
        known = ", ".join(map(repr, get_args(Aggregation)))
        raise OptionError(f"There is no aggregation of step scores {aggregation!r}; choose one of {known}.")


def _product(log_odds: Tensor) -> Tensor:
    """The log-odds of a product of probabilities, by c = log(-log p): exact where p is within a rounding of 1."""
    surprisal = softplus(-log_odds)
    # Of large log-odds l the surprisal is exp(-l), and its logarithm -l, long after exp(-l) has vanished.
    tiny = torch.finfo(torch.float64).tiny
    log_surprisal = torch.where(log_odds > -_SMALL, -log_odds, surprisal.clamp(min=tiny).log())
    c = log_surprisal.logsumexp(-1)
    log_complement = torch.where(c < _SMALL, c, torch.log(-torch.expm1(-c.exp())))
    return -c.exp() - log_complement
