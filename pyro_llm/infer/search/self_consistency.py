"""Self-consistency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.readings import Texts, no_texts
from pyro_llm.infer.search.search import Search, SearchOptions
from pyro_llm.infer.searched import Searched
from pyro_llm.ops.search.scores import check_known

Votes = Literal["equal", "probability", "normalised"]


class SelfConsistency(Search):
    """Draw N executions from the program, and give the answer that most of them give.

    Wang et al. (2022), "Self-consistency improves chain of thought reasoning in language models", arXiv 2203.11171. No
    factor of the program is asked for: it costs N texts of the language model, and no reward. `decision(fn)` tends to
    the mode of the prior distribution of `fn`, whatever the rewards of the program would say. Texts without an
    answer (`fn` gives None) do not vote.

    Votes that the rewards weigh are weighted best-of-N, `BestOfN(weighted=True)`.

    Args:
        model: the program.
        num_particles: N, in each run.
        votes: `"equal"`, by majority; or, as in the paper's comparison, weighted by the `"probability"` of the latent
            values of the particle, or by that `"normalised"` by the length of its text, the geometric mean over its
            tokens. The law is that of the program, its temperature included. A run whose latent
            sites do not all have a log_prob raises a `NonFiniteWeightError`.
        num_runs: R independent runs, executed in one batch. A decision is that of all runs together.
        max_plate_nesting: how many vectorised plates the program nests.
        progress: as for `SMC`.
        budget: what the run may spend at most; when it is spent, the search decides by what it has.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def toss():
        ...     return pyro.sample("heads", dist.Bernoulli(0.8))
        >>> pyro.set_rng_seed(0)
        >>> SelfConsistency(toss, num_particles=25).run().decision()
        1.0
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        votes: Votes = "equal",
        num_runs: int = 1,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        if votes not in get_args(Votes):
            raise OptionError(f"votes={votes!r}: choose one of {', '.join(map(repr, get_args(Votes)))}.")
        options = SearchOptions(num_particles, num_runs, max_plate_nesting, None, {"votes": votes})
        super().__init__(model, options, progress, budget, judges=False)
        self.votes = votes

    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        if self.votes == "equal":
            return Searched("votes")
        scores = result.log_prior.double().cpu()
        check_known(scores, 'choose votes="equal".')
        if self.votes == "normalised":
            if not hasattr(result.returns, "texts"):
                raise no_texts(result.returns, None)
            lengths = torch.from_numpy(Texts.of(result.returns).lengths).reshape(*scores.shape, -1).sum(-1)
            scores = scores / lengths.clamp(min=1)
        return Searched("summed score", scores)
