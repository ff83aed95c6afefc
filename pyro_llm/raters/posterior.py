"""What is known of raters: draws from the posterior of their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from pyro_llm.errors import RatingsError
from pyro_llm.raters.channel import log_joint
from pyro_llm.raters.program import RaterPrior
from pyro_llm.raters.ratings import Ratings
from pyro_llm.rewards.reward_model import RewardModel

if TYPE_CHECKING:
    from arviz import InferenceData
    from rich.table import Table
    from xarray import DataTree

    from pyro_llm.raters.reward import RatersReward


@dataclass(frozen=True, eq=False, repr=False)
class RaterPosterior:
    """D equally weighted draws of the errors of K raters; equal to another of the same draws.

    Attributes:
        raters: their names. Length K.
        prevalence: P(right) of an item. Float64 `[D]`.
        sensitivity: float64 `[D, K]`.
        specificity: float64 `[D, K]`.
        chains: Markov chains that the draws come from, one after another.
        fit: how the draws came about.

    Raises:
        RatingsError: there are no draws, shapes do not fit, or something is no probability.
    """

    raters: tuple[str, ...]
    prevalence: Tensor
    sensitivity: Tensor
    specificity: Tensor
    chains: int = 1
    fit: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.prevalence.dim() != 1 or not len(self.prevalence):
            raise RatingsError(f"prevalence has shape {list(self.prevalence.shape)}; give one entry for each draw.")
        shape = (len(self.prevalence), len(self.raters))
        for name in ("sensitivity", "specificity"):
            if tuple(getattr(self, name).shape) != shape:
                raise RatingsError(f"{name} has shape {list(getattr(self, name).shape)}, expected {list(shape)}.")
        for name in ("prevalence", "sensitivity", "specificity"):
            values = getattr(self, name)
            strange = values[~((values >= 0) & (values <= 1))]
            if strange.numel():
                raise RatingsError(f"{name} is {float(strange[0])}; give a probability, from 0 to 1.")

    @classmethod
    def from_prior(
        cls, raters: Sequence[str], prior: RaterPrior | None = None, draws: int = 1000, seed: int = 0
    ) -> RaterPosterior:
        """What is known before any rating: independent draws from the prior, by a generator of their own."""
        prior, generator = prior or RaterPrior(), np.random.default_rng(seed)
        shape = (draws, len(raters))
        prevalence = torch.from_numpy(generator.beta(*prior.prevalence, draws))
        sensitivity = torch.from_numpy(generator.beta(*prior.sensitivity, shape))
        specificity = torch.from_numpy(generator.beta(*prior.specificity, shape))
        return cls(tuple(raters), prevalence, sensitivity, specificity, fit={"method": "prior"})

    @classmethod
    def known(
        cls, sensitivity: Mapping[str, float], specificity: Mapping[str, float], prevalence: float = 0.5
    ) -> RaterPosterior:
        """Raters whose errors are known exactly: a single draw.

        >>> RaterPosterior.known({"Ann": 0.9}, {"Ann": 0.8}).sensitivity
        tensor([[0.9000]], dtype=torch.float64)

        Raises:
            RatingsError: they are not of the same raters, or something is no probability; a prevalence of 0 or 1 leaves
                nothing to ask.
        """
        _check_prevalence(prevalence)
        if sensitivity.keys() != specificity.keys():
            raise RatingsError("sensitivity and specificity are of different raters.")
        table = torch.tensor(
            [[[one[name] for name in sensitivity]] for one in (sensitivity, specificity)], dtype=torch.float64
        )
        share = torch.tensor([prevalence], dtype=torch.float64)
        return cls(tuple(sensitivity), share, table[0], table[1], fit={"method": "known"})

    def log_joint(self, ratings: Ratings) -> tuple[Tensor, Tensor]:
        """Of each draw: log-probability of each item's scores and "right", and of them and "wrong". Both `[D, I]`.

        Raises:
            RatingsError: a rater is not among those of this posterior.
        """
        unknown = [name for name in ratings.raters if name not in self.raters]
        if unknown:
            raise RatingsError(
                f"Nothing is known of the raters {unknown}; there are {', '.join(map(repr, self.raters))}. Fit them "
                "together with the others, or take RaterPosterior.from_prior for all."
            )
        order = [self.raters.index(name) for name in ratings.raters]
        return log_joint(ratings, self.prevalence[:, None], self.sensitivity[:, order], self.specificity[:, order])

    def log_odds(self, ratings: Ratings, items: Sequence[str] | None = None) -> Tensor:
        r"""Log-odds that each item is right, given its scores and all that the raters were fitted to. Float64 `[I]`.

        The errors $\theta$ are integrated out: $P(z, s) = \int P(z, s \mid \theta)\, p(\theta \mid \text{data})\,
        d\theta$ for both values of $z$, each an average over the draws, and the log of the ratio of the two. Averaging
        $P(z \mid s, \theta)$ instead would forget that the scores at hand speak for some $\theta$ more than for others.

        Args:
            ratings: what was said.
            items: what the items are, for errors; their numbers by default.

        Raises:
            RatingsError: a rater is not among those of this posterior; or the scores of an item contradict each other,
                which they cannot if their raters never err.
        """
        right, wrong = (torch.logsumexp(joint, 0) for joint in self.log_joint(ratings))
        log_odds = right - wrong
        if log_odds.isnan().any():  # neither is possible
            item = int(log_odds.isnan().nonzero()[0])
            of_item = (ratings.item == item).nonzero().flatten().tolist()
            said = ", ".join(f"{ratings.raters[ratings.rater[m]]!r} {float(ratings.score[m]):g}" for m in of_item)
            raise RatingsError(
                f"The scores of {'item ' + str(item) if items is None else repr(items[item])} contradict each other, "
                f"which they cannot if their raters never err: {said}. Give the raters a sensitivity and a specificity "
                "below 1."
            )
        return log_odds

    def with_prevalence(self, prevalence: float) -> RaterPosterior:
        """The same raters, judging texts of which a share of `prevalence` is right."""
        _check_prevalence(prevalence)
        constant = torch.full_like(self.prevalence, prevalence)
        return RaterPosterior(self.raters, constant, self.sensitivity, self.specificity, self.chains, self.fit)

    def reward(self, raters: Mapping[str, RewardModel], prevalence: float | None = None) -> RatersReward:
        """The reward P(right | what these raters say of a text); see `RatersReward`."""
        from pyro_llm.raters.reward import RatersReward

        return RatersReward(self if prevalence is None else self.with_prevalence(prevalence), tuple(raters.items()))

    def summary(self) -> dict[str, tuple[float, float, float]]:
        """Mean and central 90 % interval of each quantity: `"prevalence"`, `"sensitivity[Ann]"`, ..."""
        columns = {"prevalence": self.prevalence}
        for name in ("sensitivity", "specificity"):
            columns |= {f"{name}[{rater}]": getattr(self, name)[:, k] for k, rater in enumerate(self.raters)}
        levels = torch.tensor([0.05, 0.95], dtype=torch.float64)
        bounds = {name: x.quantile(levels).tolist() for name, x in columns.items()}
        return {name: (float(x.mean()), bounds[name][0], bounds[name][1]) for name, x in columns.items()}

    def table(self) -> Table:
        """`summary` as a table of rich."""
        from rich.table import Table

        table = Table("", "mean", "90 % interval", title=f"Raters, {len(self.prevalence)} draws", title_justify="left")
        for name, (mean, low, high) in self.summary().items():
            table.add_row(name.replace("[", r"\["), f"{mean:.3f}", f"{low:.3f} to {high:.3f}")
        return table

    def to_datatree(self) -> DataTree:
        """An `xarray.DataTree` in ArviZ's schema, dimensions chain, draw and rater."""
        from pyro_llm.raters.storage import to_datatree

        return to_datatree(self)

    def to_arviz(self) -> InferenceData | DataTree:
        """What the installed ArviZ works with."""
        from pyro_llm.diagnostics.arviz import for_version, import_arviz

        return for_version(self.to_datatree(), import_arviz())

    def save(self, path: str | PathLike[str]) -> None:
        """Write everything to a netCDF file, whole or not at all. Raises OutputPathError."""
        from pyro_llm.raters.storage import save

        save(self, path)

    @staticmethod
    def load(path: str | PathLike[str]) -> RaterPosterior:
        """Read what `save` wrote. Raises PosteriorFileError for anything else."""
        from pyro_llm.raters.storage import load

        return load(path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RaterPosterior):
            return NotImplemented
        draws = ("prevalence", "sensitivity", "specificity")
        return self.raters == other.raters and all(torch.equal(getattr(self, x), getattr(other, x)) for x in draws)

    def __hash__(self) -> int:
        return hash((self.raters, len(self.prevalence)))

    def __repr__(self) -> str:
        lines = [
            f"  {name:<30} {mean:.3f}  [{low:.3f}, {high:.3f}]" for name, (mean, low, high) in self.summary().items()
        ]
        return "\n".join([f"RaterPosterior({len(self.raters)} raters, {len(self.prevalence)} draws)", *lines])


def _check_prevalence(prevalence: float) -> None:
    if not 0 < prevalence < 1:
        raise RatingsError(f"prevalence={prevalence!r}: give a probability above 0 and below 1.")
