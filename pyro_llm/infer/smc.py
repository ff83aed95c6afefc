"""Sequential Monte Carlo over any Pyro program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pyro_llm.budget import Budget
from pyro_llm.errors import OptionError
from pyro_llm.handlers.particle_messenger import LookAhead
from pyro_llm.infer.algorithm import Algorithm, Run
from pyro_llm.infer.options import ParticleMode, ParticleOptions, ResamplingName
from pyro_llm.infer.particle_run import ParticleRun, run_vectorized
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.infer.run_monitor import RunMonitor
from pyro_llm.infer.scalar_run import run_scalar
from pyro_llm.infer.stats import StepStats
from pyro_llm.infer.stopping import delivered
from pyro_llm.ops.population import Population
from pyro_llm.ops.resampling_rule import ResamplingRule
from pyro_llm.ops.tempering import AdaptiveTempering


class SMC(Algorithm):
    r"""The particle filter: propose from the program, weigh by each observed site, resample when weights degenerate.

    For a program with latent values x and observed factors g_1, ..., g_S it targets the posterior
    $\pi(x) = p(x) \prod_s g_s(x) / Z$, and estimates the evidence $Z = \mathbb E_{p}[\prod_s g_s(x)]$ by
    $\hat Z$, the product over resamplings of the mean weight. $\hat Z$ is unbiased (its logarithm and self-normalised
    averages are not, but consistent), for any number of particles and any threshold. With a language model as the
    transition and rewards as factors the target is equation (1) of Puri et al. (arXiv 2502.01618) and this their
    Algorithm 1, its weights multiplied over steps and resampling adaptive; for the theory see Chopin &
    Papaspiliopoulos, "An Introduction to Sequential Monte Carlo", chapter 10.

    A latent site under `poutine.scale` counts by $p^s$: it is drawn from p, and is a step of factor $p^{s-1}$.

    Any Pyro program will do. It is executed on all particles at once, in a plate, and executed again from its
    beginning after each resampling, now on the values of the ancestors; what was drawn and scored is not drawn or
    scored again. So it costs what N executions of the program do, in one batch. A language model forwards each token
    that a particle writes once, and none for a resampling, as its cache follows the ancestors. A reward is asked about
    each distinct text once if it remembers its scores (`FunctionReward`, `ProcessReward`), about N texts at each of its
    sites otherwise. Besides, the program's own Python code runs once more for each resampling; `pyro_llm.loop` avoids
    that for long programs. Factors in a row are folded together: a resampling takes place when the program asks for
    the next latent value, so never after the last.

    Four things make particles go where the factors will let them live, and change neither target nor the mean of
    $\hat Z$: a latent site may name a proposal q, `infer={"proposal": q}`, a distribution or a function from the site's
    own distribution p to one, from which its value is drawn then and the weight multiplied by p / q (q must be able to
    draw all that p and the later factors allow); the program may declare a `pyro_llm.twist`; and the options
    `tempering` and `look_ahead`. The last three resample by the weights times an auxiliary potential and divide it out
    again, see `pyro_llm.ops.potential`. A proposal that is another language model, or the same at another temperature,
    costs one scoring of the drawn tokens by the site's own; nothing if it is of the same law.

    Args:
        model: the program.
        num_particles: N, in each run.
        ess_threshold: a run is resampled when its effective sample size is below this fraction of N. 0: never;
            1: always, whenever something has been observed since the last latent value. Of weights times auxiliary
            potential, where there is one; tempering follows.
        num_runs: R independent runs, executed in one batch; their spread gives the error of the evidence.
        particles: `"vectorized"`, or `"scalar"` for programs that branch in Python on sampled values: then the program
            is executed for each particle by itself, language models still being called in batches.
        max_plate_nesting: how many vectorised plates the program nests. The particles stand to the left of them. Has
            no meaning for scalar particles.
        resampling: the scheme: `"systematic"`, `"multinomial"`, `"stratified"`, `"residual"`, `"ssp"`, `"killing"` or
            `"optimal"` (the only one that leaves unequal weights); see `pyro_llm.ops.resampling`.
        resample_when: a rule of your own in place of `ess_threshold`: a function of the log-weights since the last
            resampling (with the auxiliary potential, where there is one), float64 `[R, N]`, that says which runs to
            resample, bool `[R]`. Asked when the program wants a latent value and has observed something since it last
            was. The evidence stays unbiased whatever it says.
        island_threshold: whole runs are resampled in proportion to their evidence when the effective sample size of
            that is below this fraction of the runs; 1: always, None: never, runs being independent. This is the double
            bootstrap (see `pyro_llm.ops.islands.Islands`). Runs then all have the same evidence just after, and the
            history of a run in the posterior is that of the runs it descends from.
        tempering: resample by tempered factors where the factors as they are would leave too few particles; their
            remaining power is used later. See `AdaptiveTempering`.
        look_ahead: the first-stage weights of an auxiliary particle filter: a function `(name, distribution)` of the
            latent site that comes next, which returns the logarithm of each particle's, finite, in the batch shape of
            the distribution: a guess at the factors that follow the site. Called once for each resampling that may be
            due, before it is known whether it is. Pitt & Shephard (1999), "Filtering via simulation".
        progress: a status line on standard error: yes, no, or (None) if that is a terminal; or a function called with a
            `StepReport` after each step.
        budget: what the run may spend at most. When it is spent, the posterior is that of the factors that have been
            folded by then, of all particles, and its evidence theirs; texts are as long as they were. See `Budget`.

    A run that has degenerated gives an `UnhealthyRunWarning` while it goes on: after five steps and more, none of which
    has told any particle from another (after twenty, if all were accepted for certain), or all particles descend from
    one, or half of the steps are cut off.

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
        >>> posterior = SMC(model, num_particles=100, num_runs=2).run(torch.tensor([0.3, 1.1, 0.8]))
        >>> posterior.samples["x_2"].shape
        torch.Size([2, 100])

        A proposal; this one is optimal, so all weights are equal:

        >>> def guided(y):
        ...     x = pyro.sample("x", dist.Normal(0.0, 1.0), infer={"proposal": dist.Normal(y / 2, 0.5**0.5)})
        ...     pyro.sample("y", dist.Normal(x, 1.0), obs=y)
        >>> SMC(guided, num_particles=4).run(torch.tensor(3.0)).ess()
        tensor([4.0000], dtype=torch.float64)

        An auxiliary particle filter: particles are chosen by how well the next observation fits where they may go.

        >>> def fit(name, transition):
        ...     y = torch.tensor([0.3, 1.1, 0.8])[int(name.removeprefix("x_"))]
        ...     return dist.Normal(transition.mean, 1.2).log_prob(y)
        >>> smc = SMC(model, num_particles=100, look_ahead=fit, tempering=AdaptiveTempering(ess_target=0.6))
        >>> smc.run(torch.tensor([0.3, 1.1, 0.8])).log_evidence.shape
        torch.Size([1])
    """

    options: ParticleOptions

    def __init__(
        self,
        model: Callable[..., Any],
        num_particles: int,
        *,
        ess_threshold: float = 0.5,
        num_runs: int = 1,
        particles: ParticleMode = "vectorized",
        max_plate_nesting: int = 0,
        resampling: ResamplingName = "systematic",
        resample_when: ResamplingRule | None = None,
        island_threshold: float | None = None,
        tempering: AdaptiveTempering | None = None,
        look_ahead: LookAhead | None = None,
        progress: ProgressOption = None,
        budget: Budget | None = None,
    ) -> None:
        if tempering is not None and not isinstance(tempering, AdaptiveTempering):
            raise OptionError(f"tempering={tempering!r}: give an AdaptiveTempering, or None.")
        if look_ahead is not None and not callable(look_ahead):
            raise OptionError(f"look_ahead={look_ahead!r}: give a function of a site's name and distribution, or None.")
        options = ParticleOptions(
            num_particles=num_particles,
            ess_threshold=ess_threshold,
            num_runs=num_runs,
            particles=particles,
            max_plate_nesting=max_plate_nesting,
            resampling=resampling,
            resample_when=resample_when,
            island_threshold=island_threshold,
        )
        self.tempering, self.look_ahead = tempering, look_ahead
        super().__init__(model, options, progress, budget, generations=num_runs * num_particles)

    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Run the algorithm; the arguments go to the program.

        Raises:
            AllParticlesDeadError: all particles of all runs have weight zero (if only some runs die, a
                `DeadRunWarning` is given, their evidence is 0, and the others go on).
            NonFiniteWeightError: a factor is NaN or plus infinity.
            BatchedBranchError: the program branches in Python on a value per particle.
            PlateNestingError: `max_plate_nesting` is too small, or data are observed without a plate.
            OuterHandlerError: the run is inside a Pyro handler that was meant for the program.
            CapabilityError: a latent site is scaled, and its distribution has no log-probabilities.
            DuplicateSiteError: a site name occurs twice.
            ReplayError: the program does not repeat itself (`HiddenRandomnessError` if it draws numbers outside sites).
            OptionError: `resample_when` returned something other than a bool for each run.
            RewardError: a reward failed; with vectorised particles the error's `posterior` is that of all factors
                before.
        """
        options = self.options
        with self._running(args, kwargs) as run:
            population = Population(
                options.num_runs,
                options.num_particles,
                options.ess_threshold,
                options.resampling,
                run.on_step,
                resample_when=options.resample_when,
                island_threshold=options.island_threshold,
                tempering=self.tempering,
                monitor=RunMonitor(lineages=options.island_threshold is None),
            )
            if options.particles == "scalar":
                result = run_scalar(self.model, args, kwargs, population, self.look_ahead)
            else:
                nesting = options.max_plate_nesting
                result = run_vectorized(self.model, args, kwargs, population, nesting, self.look_ahead)
        return delivered(lambda: self._posterior(result, run), result.failure)

    def _posterior(self, result: ParticleRun, run: Run) -> Posterior:
        history = result.population.history()
        return Posterior(
            samples=result.samples,
            returns=result.returns,
            log_weights=result.population.normalised_log_weights(),
            log_evidence=result.population.log_evidence(),
            log_prior=result.log_prior,
            log_likelihood=result.population.log_likelihood(),
            stats=StepStats(
                names=[step.name for step in result.population.steps],
                ess=history.ess.numpy(),
                log_evidence_increment=history.log_evidence_increment.numpy(),
                resampled=history.resampled.numpy(),
                ancestors=history.ancestors.numpy(),
                log_factor=history.log_factor.numpy(),
                inverse_temperature=None if self.tempering is None else history.inverse_temperature.numpy(),
                islands=history.islands.numpy() if result.population.islands.enabled else None,
                exchanged=history.exchanged.numpy() if result.population.islands.enabled else None,
                log_weights=history.log_weights.numpy(),
                texts=result.step_texts(history),
            ),
            observed=result.observed,
            missing=result.missing,
            cost=run.cost,
            settings=self._reported(run),
        )

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        if self.tempering is not None:
            settings["tempering"] = asdict(self.tempering)
        if self.look_ahead is not None:
            settings["look_ahead"] = getattr(self.look_ahead, "__name__", type(self.look_ahead).__name__)
        return settings
