"""Greedy decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.search.search import Search, SearchOptions
from pyro_llm.infer.searched import Searched


class Greedy(Search):
    """One execution of the program in which each latent site takes the most probable value of its distribution.

    Of a language model this is greedy decoding: each token is the most probable one, the first of equals; temperature
    does not matter, top-p and top-k do not either. It is not the most probable text. No factor of the program is asked
    for, and no random number is drawn, but for subsamples of plates. Other distributions take their `mode`, or, if
    their support can be enumerated, its most probable value.

    It costs one text of the language model, and no reward.

    Args:
        model: the program.
        max_plate_nesting: how many vectorised plates the program nests.
        progress: as for `SMC`.
        budget: what the run may spend at most; when it is spent, the search decides by what it has.

    Raises:
        OptionError: an option has a value that it cannot have.
        NoModeError: when it runs, if a distribution has no mode.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def model():
        ...     x = pyro.sample("x", dist.Gamma(3.0, 2.0))
        ...     return pyro.sample("y", dist.Poisson(x))  # which has a mode, as a Gamma has
        >>> Greedy(model).run().decision()
        1.0
    """

    def __init__(
        self,
        model: Callable[..., Any],
        *,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        options = SearchOptions(num_particles=1, max_plate_nesting=max_plate_nesting)
        super().__init__(model, options, progress, budget, judges=False, greedy=True)

    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        return Searched("votes")
