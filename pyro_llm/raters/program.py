"""The Pyro program of raters who err, each in a way of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from pyro_llm.errors import OptionError
from pyro_llm.raters.channel import log_marginal
from pyro_llm.raters.ratings import Ratings


@dataclass(frozen=True)
class RaterPrior:
    """Beta priors, each as its two counts (a, b), of mean a / (a + b).

    The default, Beta(4, 2), says better than chance: 2/3 on average, below 1/2 with probability 3/16. Without any known
    truth something of the kind is needed, as "all raters are right" and "all are wrong" fit the ratings equally well.

    Args:
        sensitivity: of each rater's probability to call what is right "right".
        specificity: of each rater's probability to call what is wrong "wrong".
        prevalence: of the probability that an item is right. Uniform by default.

    Raises:
        OptionError: a count is not positive and finite.
    """

    sensitivity: tuple[float, float] = (4.0, 2.0)
    specificity: tuple[float, float] = (4.0, 2.0)
    prevalence: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name, counts in vars(self).items():
            if len(counts) != 2 or not all(0 < count < math.inf for count in counts):
                raise OptionError(f"{name}={counts!r}: give the two counts of a Beta distribution, positive numbers.")

    @classmethod
    def of_reliability(cls, reliability: float, strength: float = 20.0) -> RaterPrior:
        """Raters whose sensitivity and specificity are `reliability` on average, known as if from `strength` tests.

        >>> RaterPrior.of_reliability(0.9).sensitivity
        (18.0, 2.0)
        """
        if not 0 < reliability < 1:
            raise OptionError(f"reliability={reliability!r}: give a probability above 0 and below 1.")
        counts = (round(reliability * strength, 9), round((1 - reliability) * strength, 9))
        return cls(counts, counts)

    def distribution(self, name: str) -> dist.Beta:
        """The prior of `"sensitivity"`, `"specificity"` or `"prevalence"`."""
        a, b = getattr(self, name)
        return dist.Beta(torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64))


def rater_program(ratings: Ratings, prior: RaterPrior | None = None) -> Tensor:
    """The model of Dawid & Skene (1979) for two classes, as a Pyro program.

    Latent sites: `prevalence`; `sensitivity` and `specificity`, one each for every rater. The truth of an item is
    summed out in closed form, so that the program has no discrete latent site and any algorithm of Pyro takes it: the
    observation `ratings` is, for each item, the log-probability of all that was said of it and of its truth where that
    is known. Items of known truth count for the prevalence too: they are taken to be drawn as the others are.

    Returns:
        The log-probability of each item's ratings. Shape `[I]`, with the batch of any plates around on the left.
    """
    prior = prior or RaterPrior()
    prevalence = pyro.sample("prevalence", prior.distribution("prevalence"))
    with pyro.plate("raters", ratings.num_raters, dim=-1):
        sensitivity = pyro.sample("sensitivity", prior.distribution("sensitivity"))
        specificity = pyro.sample("specificity", prior.distribution("specificity"))
    batched = prevalence if prevalence.dim() else prevalence.unsqueeze(-1)
    with pyro.plate("items", ratings.num_items, dim=-1):
        log_probability = log_marginal(ratings, batched, sensitivity, specificity)
        pyro.factor("ratings", log_probability)
    return log_probability
