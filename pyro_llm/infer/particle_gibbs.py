"""Particle Gibbs over any Pyro program."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.handlers.reference import Reference
from pyro_llm.infer.algorithm import Algorithm
from pyro_llm.infer.chain_posterior import chain_posterior
from pyro_llm.infer.conditional_smc import ConditionalSMC, Sweep
from pyro_llm.infer.options import ParticleOptions, check_integer, set_integers
from pyro_llm.infer.population_posterior import population_posterior
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.run_monitor import RunMonitor
from pyro_llm.run_scope import BudgetSpent, budget_is_spent

Kept = Literal["draw", "population"]


@dataclass(frozen=True)
class GibbsOptions:
    """What `ParticleGibbs` is set to; see there.

    Raises:
        OptionError: an option has a value that it cannot have.
    """

    num_particles: int
    num_iterations: int
    num_chains: int = 1
    warmup: int = 1
    ancestor_sampling: bool = False
    ess_threshold: float = 0.5
    max_plate_nesting: int = 0

    def __post_init__(self) -> None:
        set_integers(self, num_particles=2, num_iterations=1, num_chains=1, warmup=0, max_plate_nesting=0)
        if not isinstance(self.ancestor_sampling, bool):
            raise OptionError(f"ancestor_sampling={self.ancestor_sampling!r}: give True or False.")
        ParticleOptions(self.num_particles, ess_threshold=self.ess_threshold, max_plate_nesting=self.max_plate_nesting)

    def settings(self) -> dict[str, Any]:
        """The options as they are reported."""
        return asdict(self)

    def kernel(self, model: Callable[..., Any], num_runs: int, on_step: Any) -> ConditionalSMC:
        """The sweep of these options over a program, for so many runs at once."""
        return ConditionalSMC(
            model,
            num_runs,
            self.num_particles,
            self.ess_threshold,
            self.ancestor_sampling,
            self.max_plate_nesting,
            on_step=on_step,
            monitor=RunMonitor(lineages=False),
        )


@dataclass(frozen=True)
class ScheduleOptions(GibbsOptions):
    """Those of `ParticleGibbs` that `ParallelTempering` has not.

    Attributes:
        schedule: the particles of the iterations in turn, warm-up first, the last going on; `num_particles` is the
            largest. None: the same of all.
        keep: what of a sweep the posterior holds.
    """

    schedule: tuple[int, ...] | None = None
    keep: Kept = "draw"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule is not None and len(self.schedule) > self.warmup + self.num_iterations:
            raise OptionError(
                f"num_particles={list(self.schedule)!r}: there are {self.warmup} + {self.num_iterations} iterations, "
                "with warm-up; give no more numbers."
            )
        if self.keep not in get_args(Kept):
            raise OptionError(f"keep={self.keep!r}: choose {' or '.join(map(repr, get_args(Kept)))}.")

    def settings(self) -> dict[str, Any]:
        """The options as they are reported; a schedule if there is one."""
        return {name: value for name, value in super().settings().items() if value is not None}

    def sizes(self) -> list[int]:
        """The number of particles of each iteration."""
        schedule = list(self.schedule or (self.num_particles,))
        return schedule + [schedule[-1]] * (self.warmup + self.num_iterations - len(schedule))


class ParticleGibbs(Algorithm):
    r"""Markov chains of whole executions, each drawn by SMC conditioned on the one before it.

    The target is that of `SMC`: the posterior $\pi(x) \propto p(x) \prod_s g_s(x)$ of the program's latent values x.
    The first iteration is plain SMC. Each later one is *conditional* SMC: the last draw, the reference, takes slot 0
    of the particles and is weighed at each step like any other; the other N - 1 are fresh, may descend from it, and
    where the population is resampled their ancestors are drawn independently. The next draw is one final particle,
    chosen by its weight. This kernel leaves $\pi$ invariant for every N of at least 2: Andrieu, Doucet & Holenstein,
    "Particle Markov chain Monte Carlo methods" (2010), Section 4.5 and Theorem 5, for a resampling at every step; an
    adaptive one changes nothing, as its rule does not look at the order of the particles. Puri et al. (arXiv
    2502.01618), Algorithm 2. So averages over iterations converge to the posterior with few particles, where those of
    one SMC run have the bias of its N.

    Without ancestor sampling, a population whose particles all descend from the reference at the first steps does not
    renew these: `Posterior.update_rates` shows it. **Ancestor sampling** (Lindsten, Jordan & Schön, "Particle Gibbs
    with ancestor sampling", 2014) draws, at each resampling, which past the reference's future is to have: particle n
    with a probability in proportion to its weight times the density of that future, latent values and factors, under
    the past of n. The invariant law is the same, and chains mix with very few particles.

    Proposals and twists of the program guide the particles as they do in `SMC`; the invariant law is the same.

    The number of particles may change from one iteration to the next by a schedule fixed beforehand: each kernel leaves
    the posterior invariant, whatever its N. A wide first iteration finds explanations, narrow ones improve on them.

    The posterior's runs are the chains and its particles the successive draws, all of equal weight; chains are pooled
    equally. With `keep="population"` its particles are all those of all sweeps, by their weights: the draw is one of
    them chosen by weight, so that estimates keep their expectation and lose the variance of the choice (Andrieu et al.,
    2010, on the use of all particles), which for few iterations is most of it. Either way `log_evidence` is the
    unbiased estimate of each chain's first iteration: later ones give none.

    One iteration costs as much as an SMC run of N particles: the reference is not scored by the language model again,
    but slot 0's own draw is made and discarded, so of N particles' tokens N - 1 are of use; all N texts are judged by
    the reward at each step. With ancestor sampling, each resampling also scores what remains of the reference after
    each of the N pasts: after step k of T, N (T - k) further steps forwarded through the language model and judged by
    the reward, hence up to (T - 1) / 2 times the tokens and reward calls of the sweep itself.

    Args:
        model: the program, which is executed on all particles of all chains at once.
        num_particles: N in each chain, the reference among them. At least 2. Or those of the iterations in turn,
            warm-up first, the last number going on: `[64, 16]`.
        num_iterations: draws of each chain.
        num_chains: independent chains, executed in one batch.
        warmup: iterations that are discarded before these. The first iteration is not yet a draw of the Markov chain;
            0 keeps it.
        ancestor_sampling: whether to draw the reference's past anew.
        keep: what the posterior holds of each sweep: its `"draw"`, or its whole `"population"`, a sweep counting in
            proportion to its number of particles.
        ess_threshold: as for `SMC`.
        max_plate_nesting: as for `SMC`.
        progress: as for `SMC`.
        budget: what the run may spend at most. When it is spent, the chains have the iterations that are complete. If
            none of those that count is, the only draws are those of the last one of warm-up; of the first iteration if
            even that is incomplete, from its particles as they are.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        >>> import torch, pyro, pyro.distributions as dist
        >>> def model(observations):
        ...     x = torch.tensor(0.0)
        ...     for t, y in enumerate(observations):
        ...         x = pyro.sample(f"x_{t}", dist.Normal(x, 1.0))
        ...         pyro.sample(f"y_{t}", dist.Normal(x, 0.5), obs=y)
        ...     return x
        >>> pyro.set_rng_seed(0)
        >>> gibbs = ParticleGibbs(model, num_particles=5, num_iterations=50, num_chains=2, ancestor_sampling=True)
        >>> posterior = gibbs.run(torch.tensor([0.3, 1.1, 0.8]))
        >>> posterior.samples["x_2"].shape
        torch.Size([2, 50])
        >>> bool((posterior.update_rates()["x_0"] > 0.2).all())
        True
    """

    options: ScheduleOptions

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int | Sequence[int],
        num_iterations: int,
        *,
        num_chains: int = 1,
        warmup: int = 1,
        ancestor_sampling: bool = False,
        keep: Kept = "draw",
        ess_threshold: float = 0.5,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        several = isinstance(num_particles, Iterable) and not isinstance(num_particles, str)
        schedule = tuple(num_particles) if several and getattr(num_particles, "ndim", 1) else None  # type: ignore[arg-type]
        if schedule == ():
            raise OptionError("num_particles=[]: give at least one number of particles.")
        schedule = schedule and tuple(check_integer("num_particles", size, at_least=2) for size in schedule)
        options = ScheduleOptions(
            num_particles=num_particles if schedule is None else max(schedule),  # type: ignore[arg-type]
            schedule=schedule,
            keep=keep,
            num_iterations=num_iterations,
            num_chains=num_chains,
            warmup=warmup,
            ancestor_sampling=ancestor_sampling,
            ess_threshold=ess_threshold,
            max_plate_nesting=max_plate_nesting,
        )
        super().__init__(model, options, progress, budget, generations=num_chains * next(iter(options.sizes())))

    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Run the chains; the arguments go to the program.

        Raises:
            AllParticlesDeadError: in the first iteration, all particles of some chain have weight zero.
            CapabilityError: with ancestor sampling, a latent site has no log-probabilities.
            ReplayError: the program is not the same in each iteration, or draws a subsample of data.
            NonFiniteWeightError: as for `SMC`, as are BatchedBranchError, PlateNestingError, DuplicateSiteError.
        """
        options = self.options
        with self._running(args, kwargs) as run:
            kernel = options.kernel(self.model, options.num_chains, run.on_step)
            kernel = replace(kernel, keeps_particles=options.keep == "population")
            sweeps: list[Sweep] = []
            reference: Reference | None = None
            for iteration, size in enumerate(options.sizes()):
                try:
                    sweep = replace(kernel, num_particles=size).sweep(args, kwargs, reference)
                except BudgetSpent:
                    break
                reference = sweep.reference
                if iteration == 0:
                    log_evidence = sweep.log_evidence
                if iteration >= options.warmup:
                    sweeps.append(sweep)
                if budget_is_spent():
                    break
            sweeps = sweeps or [sweep]
        if options.keep == "population":
            return population_posterior(sweeps, log_evidence, run.cost, self._reported(run))
        return chain_posterior(sweeps, range(options.num_chains), log_evidence, run.cost, self._reported(run))
