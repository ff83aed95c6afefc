"""Best-of-N."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.search.search import Search, SearchOptions
from pyro_llm.infer.searched import Searched
from pyro_llm.ops.search import ScoreName


class BestOfN(Search):
    r"""Draw N executions from the program, and give the one of the highest score.

    Cobbe et al. (2021), "Training verifiers to solve math word problems", arXiv 2110.14168. It estimates nothing: the
    text chosen has probability $F(s)^N - F(s^-)^N$, F being the distribution of the scores s that texts drawn from the
    program have (where no two texts have the same score), and tends to the text of the highest score. Weighted, scores
    of the texts that give one answer are summed and the answer of the highest sum is given: Li et al. (2023), "Making
    language models better reasoners with step-aware verifier", arXiv 2206.02336.

    It costs one execution of the program on all particles: each token of N texts is forwarded once by the language
    model, and the rewards of the program are asked at each of its sites; a program that has one factor, after its last
    step, asks once. Proposals of the program are drawn from, without a correction.

    Args:
        model: the program.
        num_particles: N, in each run.
        weighted: whether the decision goes by the highest sum of the scores of one value. Scores should then be
            probabilities, as they are unless the program's emission is `"odds"`.
        score: how the factors of a particle become its score: `"last"`, that of the last one, as published (Beeching,
            Tunstall & Rush, 2024, "Scaling test-time compute with open models"); `"product"` (with
            `emission="potential"` the reward of the whole text), `"min"`, `"mean"`, or `"lp"`, the joint density.
        num_runs: R independent runs, executed in one batch. A decision is that of all runs together.
        max_plate_nesting: how many vectorised plates the program nests.
        progress: as for `SMC`.
        budget: what the run may spend at most; when it is spent, the search decides by what it has.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def throw():
        ...     die = pyro.sample("die", dist.Categorical(torch.ones(6))) + 1
        ...     pyro.sample("luck", dist.Bernoulli(die / 7), obs=torch.tensor(1.0))
        ...     return die
        >>> pyro.set_rng_seed(0)
        >>> posterior = BestOfN(throw, num_particles=20).run()
        >>> posterior.decision(), posterior.is_search
        (6, True)
        >>> posterior.scores.shape
        torch.Size([1, 20])
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        weighted: bool = False,
        score: ScoreName = "last",
        num_runs: int = 1,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        options = SearchOptions(num_particles, num_runs, max_plate_nesting, score, {"weighted": bool(weighted)})
        super().__init__(model, options, progress, budget)
        self.weighted = bool(weighted)

    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        return Searched("summed score" if self.weighted else "highest score", scores)
