r"""The channel of a rater, from what is true to what is said, and ratings under it with the truth summed out.

A rater of sensitivity $a$ and specificity $b$ says "right" of what is right with probability $a$, and "wrong" of what
is wrong with probability $b$ (Dawid & Skene, Applied Statistics 28(1), 1979, for two classes). A score $s$ between 0
and 1 is a vote that was not heard clearly: "right" with probability $s$. Its likelihood is that of either vote in these
proportions, Pearl's virtual evidence (Probabilistic Reasoning in Intelligent Systems, 1988, section 2.2.2),

$$ L(s \mid \text{right}) = s\,a + (1 - s)(1 - a), \qquad L(s \mid \text{wrong}) = s\,(1 - b) + (1 - s)\,b. $$
"""

from __future__ import annotations

import torch
from torch import Tensor

from pyro_llm.raters.ratings import Ratings


def log_likelihoods(score: Tensor, sensitivity: Tensor, specificity: Tensor) -> tuple[Tensor, Tensor]:
    r"""$\log L(s \mid \text{right})$ and $\log L(s \mid \text{wrong})$; all arguments broadcast.

    >>> right, wrong = log_likelihoods(torch.tensor([1.0, 0.5]), torch.tensor(0.9), torch.tensor(0.7))
    >>> right.exp(), wrong.exp()
    (tensor([0.9000, 0.5000]), tensor([0.3000, 0.5000]))
    """
    right = score * sensitivity + (1 - score) * (1 - sensitivity)
    wrong = score * (1 - specificity) + (1 - score) * specificity
    return right.log(), wrong.log()


def log_joint(ratings: Ratings, prevalence: Tensor, sensitivity: Tensor, specificity: Tensor) -> tuple[Tensor, Tensor]:
    r"""Log-probability of the scores of each item together with "it is right", and together with "it is wrong".

    Given the truth of an item its raters err independently. Whatever is known of the truth is not made use of.

    Args:
        ratings: I items, K raters.
        prevalence: $P(\text{right})$ of an item. Shape `[..., 1]`.
        sensitivity: shape `[..., K]`.
        specificity: shape `[..., K]`.

    Returns:
        Two tensors of shape `[..., I]`.
    """
    right, wrong = log_likelihoods(ratings.score, sensitivity[..., ratings.rater], specificity[..., ratings.rater])
    return (
        prevalence.log() + _sum_by_item(right, ratings),
        torch.log1p(-prevalence) + _sum_by_item(wrong, ratings),
    )


def log_marginal(ratings: Ratings, prevalence: Tensor, sensitivity: Tensor, specificity: Tensor) -> Tensor:
    """Log-probability of the scores of each item and of its truth where known, the truth summed out where not.

    Arguments are those of `log_joint`; the result has shape `[..., I]`.
    """
    right, wrong = log_joint(ratings, prevalence, sensitivity, specificity)
    known = torch.where(ratings.truth == 1, right, wrong)
    return torch.where(ratings.truth.isnan(), torch.logaddexp(right, wrong), known)


def _sum_by_item(values: Tensor, ratings: Ratings) -> Tensor:
    sums = values.new_zeros((*values.shape[:-1], ratings.num_items))
    return sums.index_add(-1, ratings.item, values)
