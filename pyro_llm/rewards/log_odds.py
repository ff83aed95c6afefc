r"""Log-odds of probabilities that are made from others, without passing through a probability.

A probability near 1 has no digits left for what it lacks to 1; its log-odds have. So whatever is composed of rewards is
composed of $\log r$ and $\log(1 - r)$, both of which log-odds give exactly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_SURELY_ACCEPTED = 37.0  # log-odds beyond which -log r = exp(-log-odds) to the last bit of a double


def from_probability(probability: float) -> float:
    """The log-odds of a probability in [0, 1]; infinite at its ends.

    Example:
        >>> from_probability(0.5), from_probability(1)
        (0.0, inf)
    """
    if probability in (0.0, 1.0):
        return math.inf if probability else -math.inf
    return math.log(probability) - math.log1p(-probability)


def from_log_probability(log_probability: float) -> float:
    r"""The log-odds of a probability $e^l$ from its logarithm $l$; infinite at 0, and a rounding above it.

    Example:
        >>> round(from_log_probability(-1e-9), 2), from_log_probability(0.0)
        (20.72, inf)
    """
    if log_probability >= 0:
        return math.inf
    return log_probability - math.log(-math.expm1(log_probability))


def log_surprisal(log_odds: Tensor) -> Tensor:
    r"""$\log(-\log r)$ of acceptances $r = \sigma(z)$, float64; it tells $r$ from 1 at any log-odds $z$."""
    log_odds = log_odds.double()
    return torch.where(log_odds > _SURELY_ACCEPTED, -log_odds, (-logsigmoid(log_odds)).log())


def from_log_surprisal(log_surprisal: Tensor) -> Tensor:
    r"""The log-odds of $r$ from $\log(-\log r)$: with $s = -\log r$, $\;-s - \log(1 - e^{-s})$, for $s$ of any size."""
    surprisal = log_surprisal.exp()
    rejected_of_surprisal = torch.where(surprisal == 0, 1.0, -torch.expm1(-surprisal) / surprisal)  # (1 - r) / s
    log_odds = -surprisal - log_surprisal - rejected_of_surprisal.log()
    return torch.where(surprisal.isinf(), -torch.inf, log_odds)


def of_mixture(log_weights: Tensor, log_odds: Tensor) -> Tensor:
    r"""The log-odds of $\sum_k w_k \sigma(z_k)$, where $\sum_k w_k = 1$.

    Args:
        log_weights: $\log w_k$. Shape `[K]`.
        log_odds: $z_k$. Shape `[K, ...]`.

    Returns:
        float64, shape `[...]`.
    """
    log_odds = log_odds.double()
    log_weights = log_weights.double().reshape(-1, *[1] * (log_odds.dim() - 1)).to(log_odds.device)
    accepted = torch.logsumexp(log_weights + logsigmoid(log_odds), 0)
    rejected = torch.logsumexp(log_weights + logsigmoid(-log_odds), 0)
    return accepted - rejected


def of_noisy(log_odds: Tensor, false_accept: float, false_reject: float) -> Tensor:
    r"""The log-odds of $(1 - f_r) r + f_a (1 - r)$ with $r = \sigma(z)$; float64, of the same shape.

    Args:
        log_odds: $z$.
        false_accept: $f_a$, in [0, 1].
        false_reject: $f_r$, in [0, 1].
    """
    log_odds = log_odds.double()
    right, wrong = logsigmoid(log_odds), logsigmoid(-log_odds)
    accepted = torch.logaddexp(right + _log_complement(false_reject), wrong + _log(false_accept))
    rejected = torch.logaddexp(right + _log(false_reject), wrong + _log_complement(false_accept))
    return accepted - rejected


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def _log_complement(probability: float) -> float:
    return math.log1p(-probability) if probability < 1 else -math.inf
