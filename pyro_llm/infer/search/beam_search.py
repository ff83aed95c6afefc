"""Beam search guided by the factors of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.search.search import Search, SearchOptions, check_beam_width
from pyro_llm.infer.searched import Searched
from pyro_llm.ops.search import KeepBest, ScoreName


class BeamSearch(Search):
    """Keep the N / M prefixes of the highest score at each decision point, continue each M times, give the best text.

    Guided by a process reward, as in Snell et al. (2024), "Scaling LLM test-time compute optimally can be more
    effective than scaling model parameters", arXiv 2408.03314, and in Beeching, Tunstall & Rush (2024), "Scaling
    test-time compute with open models" (`search-and-learn`), M = 4 and the score of the last step. Continuations are
    *drawn* from the program, which is executed on N particles as in `SMC`: a decision point is where the program asks
    for the next latent value and has met new factors. It estimates nothing. If all continuations are drawn, and
    `num_particles / beam_width` is not less than the number of prefixes of any length, it finds the highest score.

    A finished text is absorbing: its score stands, it competes with the prefixes that go on, and copies of it write
    nothing; the search ends when all that is kept has finished. `search-and-learn` sets finished texts aside instead,
    where they compete no more, and goes on with the best of the others until there are N or all have finished: it
    writes more tokens, and its finished texts are those of all steps. In
    `its-hub` they compete, as here; its `beam_width` is the number of prefixes that are kept.

    It costs at most N texts of the language model, each token forwarded once (the cache follows the prefixes that are
    kept), less where finished texts are among those kept, and about N texts of the rewards at each site.

    Args:
        model: the program.
        num_particles: N, in each run, a multiple of `beam_width`.
        beam_width: M, the continuations of each prefix.
        score: how the factors of a particle become its score: `"last"`, as published, `"product"`, `"min"`, `"mean"`;
            or `"lp"`, the joint density of what has been drawn and the factors, with which it looks for the mode.
        distinct: whether of particles with the same latent values one is kept (`filter_duplicates` of
            `search-and-learn`). Where fewer than N / M differ, all of them are continued, evenly.
        num_runs: R independent runs, executed in one batch. A decision is that of all runs together.
        max_plate_nesting: how many vectorised plates the program nests.
        progress: as for `SMC`.
        budget: what the run may spend at most; when it is spent, the search decides by what it has.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import pyro
        >>> from pyro_llm.lm import TableLM
        >>> from pyro_llm.models import ReasoningSSM
        >>> from pyro_llm.rewards import FunctionReward
        >>> lm = TableLM(lambda tokens: [0.5, 0.4, 0.1], ["a", "b", "."], eos_token_id=2)
        >>> reward = FunctionReward(lambda text: (1 + text.count("b")) / (2 + len(text)))
        >>> model = ReasoningSSM(lm, reward, max_steps=6, stop=None, max_tokens=1)
        >>> pyro.set_rng_seed(0)
        >>> BeamSearch(model, num_particles=16, progress=False).run("").decision()
        'bbbbbb'
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        beam_width: int = 4,
        score: ScoreName = "last",
        distinct: bool = True,
        num_runs: int = 1,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        others = {"beam_width": beam_width, "distinct": bool(distinct)}
        options = SearchOptions(num_particles, num_runs, max_plate_nesting, score, others)
        check_beam_width(beam_width, num_particles)
        super().__init__(model, options, progress, budget, rule=KeepBest(beam_width, bool(distinct)))

    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        return Searched("highest score", scores)
