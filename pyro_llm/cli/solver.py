"""From the options of the command line to a posterior, with progress while it works."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing

import pyro
import torch
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import pyro_llm
from pyro_llm.cli.console import errors, warnings_told
from pyro_llm.cli.options import SolveOptions
from pyro_llm.infer import SMC, Outcome, Posterior
from pyro_llm.infer.progress import ProgressOption
from pyro_llm.lm.state import TextState
from pyro_llm.models import ReasoningSSM
from pyro_llm.ops.steps import StepReport
from pyro_llm.raters import observe_votes


class Solver:
    """Loads the models once and solves problems with them."""

    def __init__(self, options: SolveOptions) -> None:
        self.options = options
        self.votes = None if options.votes is None else options.votes.likelihood()
        dtype = getattr(torch, options.dtype) if options.dtype else None
        with self._progress() as progress:
            progress.add_task(f"loading {options.lm}", total=None)
            lm = pyro_llm.load_lm(options.lm, device=options.device, dtype=dtype)
            reward = pyro_llm.load_reward(
                options.reward, device=options.device, dtype=dtype, calibration=options.calibration
            )
        self.model = ReasoningSSM(
            lm, reward, max_steps=options.max_steps, stop=options.stop, max_tokens=options.max_tokens,
            temperature=options.temperature, top_p=options.top_p, top_k=options.top_k,
            observe=None if self.votes is None else self._observe_votes,
        )  # fmt: skip

    def solve(self, problem: str, seed: int) -> Posterior:
        """The posterior of a problem's solutions. The same seed gives the same posterior."""
        with self._progress() as progress, warnings_told():
            task = progress.add_task("reading the problem", total=None)

            def report(step: StepReport) -> None:
                ess = f"{float(step.ess.mean()):.0f} of {self.options.particles}"
                progress.update(task, description=f"step {step.step}: ESS {ess}, {step.resamplings} resamplings")

            pyro.set_rng_seed(seed)
            posterior = self._smc(report).run(problem)
        return self.labelled(posterior, seed)

    def solve_each(self, problems: Iterable[tuple[str, int]], concurrent: int) -> Generator[Outcome]:
        """The posteriors of problems and seeds, or what prevented them, as they come: each is that of `solve`."""
        waiting: deque[int] = deque()
        seeds: list[int] = []

        def texts() -> Iterator[str]:
            for text, seed in problems:
                waiting.append(seed)
                seeds.append(seed)
                yield text

        done = 0
        with self._progress() as progress, warnings_told():
            task = progress.add_task("reading the problems", total=None)

            def report(index: int, step: StepReport) -> None:
                progress.update(task, description=f"{done} problems done; problem {index + 1}, step {step.step}")

            outcomes = self._smc(False).iter_each(
                texts(), concurrent=concurrent, seeds=iter(waiting.popleft, None), progress=report
            )
            with closing(outcomes):
                for outcome in outcomes:
                    done += 1
                    if outcome.posterior is not None:
                        self.labelled(outcome.posterior, seeds[outcome.index])
                    progress.stop()  # what is printed now does not run into the line
                    yield outcome
                    progress.start()

    def _observe_votes(self, step: int, state: TextState) -> None:
        if self.votes is not None:
            observe_votes(f"votes_{step}", self.votes, state)

    def _smc(self, progress: ProgressOption) -> SMC:
        options = self.options
        return SMC(
            self.model, num_particles=options.particles, num_runs=options.runs, ess_threshold=options.ess_threshold,
            progress=progress, budget=options.budget,
        )  # fmt: skip

    def labelled(self, posterior: Posterior, seed: int) -> Posterior:
        """The posterior with its seed, and the options of the command, among its settings."""
        # What torch reports of itself is the seed that was set last, wherever it has got to since; here it was set just
        # before the run.
        posterior.settings["seed"] = seed
        posterior.settings["command"] = self.options.settings | {"device": self.options.device}
        return posterior

    @staticmethod
    def _progress() -> Progress:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        return Progress(*columns, console=errors, transient=True)
