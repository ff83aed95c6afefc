"""Diverse verifier tree search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.search.search import Search, SearchOptions, check_beam_width
from pyro_llm.infer.searched import Searched
from pyro_llm.ops.search import KeepBestOfSubtrees, ScoreName


class DVTS(Search):
    """N / M independent greedy searches: each draws M continuations, keeps the best one, and goes on from it.

    Diverse verifier tree search of Beeching, Tunstall & Rush (2024), "Scaling test-time compute with open models"
    (`search-and-learn`), M = 4 and the score of the last step as there. It is `BeamSearch` in subtrees that do not
    compete before the end, when the best text of all is given; a subtree whose best continuation has finished is done.
    It estimates nothing. Cost as for `BeamSearch`.

    Args:
        model: the program.
        num_particles: N, in each run, a multiple of `beam_width`. The particles of a subtree are neighbours.
        beam_width: M, the continuations in a subtree.
        score: as for `BeamSearch`.
        num_runs: R independent runs, executed in one batch. A decision is that of all runs together.
        max_plate_nesting: how many vectorised plates the program nests.
        progress: as for `SMC`.
        budget: what the run may spend at most; when it is spent, the search decides by what it has.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def climb():
        ...     height = torch.tensor(0.0)
        ...     for t in range(5):
        ...         height = height + pyro.sample(f"step_{t}", dist.Normal(0.0, 1.0))
        ...         pyro.sample(f"view_{t}", dist.Bernoulli(logits=height), obs=torch.tensor(1.0))
        ...     return height
        >>> pyro.set_rng_seed(0)
        >>> posterior = DVTS(climb, num_particles=16, progress=False).run()
        >>> posterior.returns.shape, posterior.decision() > 5
        (torch.Size([1, 16]), True)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        beam_width: int = 4,
        score: ScoreName = "last",
        num_runs: int = 1,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        options = SearchOptions(num_particles, num_runs, max_plate_nesting, score, {"beam_width": beam_width})
        check_beam_width(beam_width, num_particles)
        super().__init__(model, options, progress, budget, rule=KeepBestOfSubtrees(beam_width))

    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        return Searched("highest score", scores)
