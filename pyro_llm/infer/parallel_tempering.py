"""Particle Gibbs with parallel tempering over any Pyro program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.handlers.reference import Reference
from pyro_llm.infer.algorithm import Algorithm
from pyro_llm.infer.chain_posterior import chain_posterior
from pyro_llm.infer.conditional_smc import ConditionalSMC, Sweep
from pyro_llm.infer.markov_chains import Tempering
from pyro_llm.infer.options import set_integers
from pyro_llm.infer.particle_gibbs import GibbsOptions
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.ops.replica_exchange import Ladder, RoundTrips, exchange
from pyro_llm.run_scope import BudgetSpent, budget_is_spent

LOWEST = 0.1
"""The inverse temperature of the last rung, before a ladder has learnt."""


@dataclass(frozen=True)
class TemperingOptions(GibbsOptions):
    """What `ParallelTempering` is set to; see there.

    Raises:
        OptionError: an option has a value that it cannot have.
    """

    num_rungs: int | None = None
    inverse_temperatures: tuple[float, ...] | None = None
    target_swap_rate: float = 0.234

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.num_rungs is None) == (self.inverse_temperatures is None):
            raise OptionError(
                "Give either num_rungs, for a ladder that learns, or inverse_temperatures, for a fixed one."
            )
        if self.num_rungs is not None:
            set_integers(self, num_rungs=2)
        if self.inverse_temperatures is not None:
            rungs = self.inverse_temperatures
            descending = all(upper > lower for upper, lower in pairwise(rungs))
            if len(rungs) < 2 or rungs[0] != 1 or not descending or not rungs[-1] >= 0:
                raise OptionError(
                    f"inverse_temperatures={list(rungs)!r}: give two or more, descending from 1 to no less than 0."
                )
        target: Any = self.target_swap_rate
        if isinstance(target, bool) or not isinstance(target, int | float) or not 0 < target < 1:
            raise OptionError(f"target_swap_rate={target!r}: give a rate between 0 and 1.")


class ParallelTempering(Algorithm):
    r"""Particle Gibbs chains at a ladder of temperatures, which exchange their references.

    Rung k targets $\pi_k(x) \propto p(x) L(x)^{\beta_k}$, with $L = \prod_s g_s$ the program's observed factors and
    $1 = \beta_0 > \beta_1 > \dots$. Each iteration is a sweep of `ParticleGibbs` at every rung, its factors raised to
    $\beta_k$, all rungs of all chains in one batch of particles; then neighbours exchange references with probability
    $\min(1, (L(x^{k+1}) / L(x^k))^{\beta_k - \beta_{k+1}})$, the pairs (0, 1), (2, 3), ... and (1, 2), (3, 4), ... in
    turn. So explanations that no chain at $\beta = 1$ could reach step by step come down from the hot rungs. Puri et
    al. (arXiv 2502.01618), Algorithm 3. (Their $1 / T_k$ are our $\beta_k$, and only rewards are tempered there too.)

    The posterior holds the draws of the rung at $\beta = 1$; `posterior.chains.tempering` has the ladder, the rates of
    accepted swaps, the round trips of the replicas, and the log-likelihoods at all rungs. The ladder of `num_rungs`
    begins as a geometric sequence from 1 to 0.1, learns spacings that are swapped at a target rate during warm-up, and
    is fixed from then on, as an exact sampler's must be.

    As in `ParticleGibbs`, `log_evidence` is the unbiased estimate of each chain's first iteration, which is plain SMC.
    An iteration costs K times the tokens and reward calls of one of `ParticleGibbs`, in batches K times as large; swaps
    cost nothing, as the log-likelihoods are known.

    Args:
        model: the program.
        num_particles: N at each rung of each chain, the reference among them. At least 2.
        num_iterations: draws of each chain.
        num_rungs: K, for a ladder that learns. At least 2.
        inverse_temperatures: a ladder that is given, descending from 1; 0 is the prior.
        target_swap_rate: what a ladder aims at that learns.
        num_chains: independent ladders.
        warmup: iterations that are discarded before these, in which the ladder learns.
        ancestor_sampling: as for `ParticleGibbs`.
        ess_threshold: as for `SMC`.
        max_plate_nesting: as for `SMC`.
        progress: as for `SMC`.
        budget: as for `ParticleGibbs`.

    Raises:
        OptionError: an option has a value that it cannot have.

    Examples:
        Two explanations that are far apart:

        >>> import torch, pyro, pyro.distributions as dist
        >>> def model():
        ...     x = pyro.sample("x", dist.Normal(0.0, 3.0))
        ...     pyro.sample("y", dist.Normal(x.abs(), 0.3), obs=torch.tensor(4.0))
        ...     return x > 0
        >>> pyro.set_rng_seed(0)
        >>> tempering = ParallelTempering(model, 3, num_iterations=400, inverse_temperatures=[1, 0.3, 0.05, 0])
        >>> posterior = tempering.run()
        >>> abs(posterior.marginal()[True] - 0.5) < 0.15
        True
        >>> posterior.chains.tempering.swap_rates.shape
        (3,)
    """

    options: TemperingOptions

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        num_iterations: int,
        *,
        num_rungs: int | None = None,
        inverse_temperatures: Sequence[float] | None = None,
        target_swap_rate: float = 0.234,
        num_chains: int = 1,
        warmup: int = 20,
        ancestor_sampling: bool = False,
        ess_threshold: float = 0.5,
        max_plate_nesting: int = 0,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        options = TemperingOptions(
            num_particles=num_particles,
            num_iterations=num_iterations,
            num_chains=num_chains,
            warmup=warmup,
            ancestor_sampling=ancestor_sampling,
            ess_threshold=ess_threshold,
            max_plate_nesting=max_plate_nesting,
            num_rungs=num_rungs,
            inverse_temperatures=None if inverse_temperatures is None else tuple(map(float, inverse_temperatures)),
            target_swap_rate=target_swap_rate,
        )
        rungs = options.num_rungs or len(options.inverse_temperatures or ())
        super().__init__(model, options, progress, budget, generations=num_chains * rungs * num_particles)

    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Run the chains; the arguments go to the program. Raises what `ParticleGibbs.run` does."""
        options = self.options
        course = _Course(options)
        with self._running(args, kwargs, populations=f"{course.num_rungs} rungs of ") as run:
            kernel = options.kernel(self.model, options.num_chains * course.num_rungs, run.on_step)
            for iteration in range(options.warmup + options.num_iterations):
                try:
                    course.iterate(kernel, args, kwargs, warming_up=iteration < options.warmup)
                except BudgetSpent:
                    break
                if budget_is_spent():
                    break
        settings = {**self._reported(run), "inverse_temperatures": course.inverse_temperatures.tolist()}
        first_rungs = range(0, options.num_chains * course.num_rungs, course.num_rungs)
        return chain_posterior(course.kept, first_rungs, course.log_evidence, run.cost, settings, course.tempering())


class _Course:
    """The state of all ladders, run r of the kernel being rung r % K of chain r // K; and what is kept of it."""

    def __init__(self, options: TemperingOptions) -> None:
        self.num_chains = options.num_chains
        self.sweeps: list[Sweep] = []
        self.log_evidence = torch.empty(0)
        self._reference: Reference | None = None
        self._last: Sweep | None = None
        self._ladder: Ladder | None = None
        if options.inverse_temperatures is not None:
            self.inverse_temperatures = torch.tensor(options.inverse_temperatures, dtype=torch.float64)
        else:
            assert options.num_rungs is not None
            self._ladder = Ladder(options.num_rungs, LOWEST, options.target_swap_rate)
            self.inverse_temperatures = self._ladder.inverse_temperatures
        self.num_rungs = len(self.inverse_temperatures)
        self._iteration = 0
        self._trips = RoundTrips(self.num_chains, self.num_rungs)
        self._tried = torch.zeros(self.num_rungs - 1)
        self._accepted = torch.zeros(self.num_rungs - 1)

    def iterate(self, kernel: ConditionalSMC, args: tuple[Any, ...], kwargs: dict[str, Any], warming_up: bool) -> None:
        """Sweep at every rung, keep the draws unless still warming up, and exchange references."""
        powers = self.inverse_temperatures.repeat(self.num_chains)
        sweep = kernel.sweep(args, kwargs, self._reference, powers)
        if self._reference is None:
            self.log_evidence = sweep.log_evidence[:: self.num_rungs]
        self._last = sweep
        if budget_is_spent():  # the first sweep, unfinished
            return
        if not warming_up:
            self.sweeps.append(sweep)
        log_likelihood = sweep.log_likelihood.reshape(self.num_chains, self.num_rungs)
        uniforms = torch.rand(self.num_chains, self.num_rungs - 1, dtype=torch.float64)
        swaps = exchange(log_likelihood, self.inverse_temperatures, self._iteration % 2, uniforms)
        self._iteration += 1
        first_rungs = torch.arange(self.num_chains)[:, None] * self.num_rungs
        self._reference = sweep.reference.take((first_rungs + swaps.sources).flatten())
        if not warming_up:
            self._trips.follow(swaps)
            self._tried += swaps.tried
            self._accepted += swaps.accepted.double().mean(0)
        elif self._ladder is not None:
            self._ladder.learn(swaps)
            self.inverse_temperatures = self._ladder.inverse_temperatures

    @property
    def kept(self) -> list[Sweep]:
        """The sweeps whose draws count; if there is none as the budget is spent, the last one."""
        assert self.sweeps or self._last is not None
        return self.sweeps or [self._last]  # type: ignore[list-item]

    def tempering(self) -> Tempering:
        """What the ladders did after warm-up."""
        log_likelihood: Tensor = torch.stack([sweep.log_likelihood for sweep in self.kept], -1)
        return Tempering(
            inverse_temperatures=self.inverse_temperatures.numpy(),
            swap_rates=(self._accepted / self._tried).double().numpy(),
            round_trips=self._trips.completed.numpy(),
            log_likelihood=log_likelihood.reshape(self.num_chains, self.num_rungs, -1).numpy(),
        )
