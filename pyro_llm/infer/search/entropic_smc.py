"""Entropic particle filtering."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.infer.options import ResamplingName, check_fraction, check_integer
from pyro_llm.infer.particle_run import ParticleRun
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.search.search import Search, SearchOptions
from pyro_llm.infer.searched import Searched
from pyro_llm.ops.resampling import resampling_scheme
from pyro_llm.ops.search import AnnealedResampling, Annealing, ScoreName


class EntropicSMC(Search):
    r"""A particle filter that resamples by annealed scores while few particles hold them all, early on.

    Entropic particle filtering of Giannone et al. (2025), "Mitigating premature exploitation in particle-based Monte
    Carlo for inference-time scaling", arXiv 2510.05825, as `its-hub` 1.2.0 has it: with its defaults, and without the
    paper's look-ahead modulation (which is `SMC(look_ahead=...)` here). At each decision point ancestors are drawn in
    proportion to $s^{\beta}$, s the particles' present scores, for which `its-hub` takes the odds of the reward of the
    text so far: give the program `emission="odds"` to have them. $\beta$ is 1, but 1 / temperature where the effective
    sample size of the scores is below `ess_threshold * N` and fewer than `early_phase * max_steps` steps are taken;
    see `pyro_llm.ops.search.temperature`. The text of the highest score is given.

    It is no estimator, and so a search: nothing makes up for $\beta$, and the scores of texts that have finished count
    again at each step that others take. Without annealing, and where all texts take the same number of steps, it is
    `SMC(ess_threshold=1)` with the weights left out. With annealing, and a great many particles, particles before the
    last factor have the law $\propto p(x) \prod_t g_t^{\beta_t}$, $\beta_t$ being what the rule gives for an infinite
    population: another law than the posterior of the program. With few particles $\beta_t$ depends on the very
    particles it is applied to, and that law is not exact either, nor is any estimate of its normalising constant
    unbiased. Resampling that is tempered *and* corrected is `SMC(tempering=AdaptiveTempering())`.

    Differs from `its-hub` in that there is no resampling after the last step, which could only lose the best text,
    and that shares below 1e-7 are not raised to it.

    Cost as for `SMC`.

    Args:
        model: the program.
        num_particles: N, in each run.
        max_steps: the steps that the program takes at most; by default its attribute `max_steps`, as of `ReasoningSSM`.
        ess_threshold: the fraction of N.
        early_phase: the fraction of the steps.
        annealing: `"ess"`, `"entropy"` or `"base"`: the rule of the temperature.
        resampling: the scheme, as for `SMC`; not `"optimal"`, which leaves weights.
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
        ...     for t in range(4):
        ...         height = height + pyro.sample(f"step_{t}", dist.Normal(0.0, 1.0))
        ...         pyro.sample(f"view_{t}", dist.Bernoulli(logits=4 * height), obs=torch.tensor(1.0))
        >>> pyro.set_rng_seed(0)
        >>> posterior = EntropicSMC(climb, num_particles=8, max_steps=4, progress=False).run()
        >>> posterior.stats.inverse_temperature.shape
        (1, 4)
    """

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        max_steps: int | None = None,
        ess_threshold: float = 0.5,
        early_phase: float = 0.5,
        annealing: Annealing = "ess",
        resampling: ResamplingName = "systematic",
        score: ScoreName = "last",
        num_runs: int = 1,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        max_steps = getattr(model, "max_steps", None) if max_steps is None else max_steps
        if max_steps is None:
            raise OptionError(
                "max_steps: the annealing comes down over the steps of the program, and this program does not say how "
                "many it takes at most. Give max_steps."
            )
        max_steps = check_integer("max_steps", max_steps, at_least=1)
        check_fraction("ess_threshold", ess_threshold)
        check_fraction("early_phase", early_phase)
        if annealing not in get_args(Annealing):
            raise OptionError(f"annealing={annealing!r}: choose one of {', '.join(map(repr, get_args(Annealing)))}.")
        resampling_scheme(resampling)
        if resampling == "optimal":
            raise OptionError("resampling='optimal' leaves weights, which a search has no use for; choose another.")
        others = {
            "max_steps": max_steps,
            "ess_threshold": ess_threshold,
            "early_phase": early_phase,
            "annealing": annealing,
            "resampling": resampling,
        }
        options = SearchOptions(num_particles, num_runs, max_plate_nesting, score, others)
        rule = AnnealedResampling(max_steps, ess_threshold, early_phase, annealing, resampling)
        super().__init__(model, options, progress, budget, rule=rule)

    def _searched(self, result: ParticleRun, scores: Tensor) -> Searched:
        return Searched("highest score", scores)
