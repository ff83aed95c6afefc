"""From the options of the command line to a posterior, with progress while it works."""

from __future__ import annotations

import pyro
import torch
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import pyro_llm
from pyro_llm.cli.console import dead_runs_told, errors
from pyro_llm.cli.options import SolveOptions
from pyro_llm.errors import OptionError
from pyro_llm.infer import SMC, Posterior
from pyro_llm.models import ReasoningSSM
from pyro_llm.ops.steps import StepReport
from pyro_llm.rewards import Calibrated, RewardModel


class Solver:
    """Loads the models once and solves problems with them."""

    def __init__(self, options: SolveOptions) -> None:
        self.options = options
        dtype = getattr(torch, options.dtype) if options.dtype else None
        _check_device(options.device)
        with self._progress() as progress:
            progress.add_task(f"loading {options.lm}", total=None)
            lm = pyro_llm.load_lm(options.lm, device=options.device, dtype=dtype)
            reward: RewardModel = pyro_llm.load_reward(options.reward, device=options.device, dtype=dtype)
        if options.calibration is not None:
            reward = Calibrated(reward, options.calibration)
        self.model = ReasoningSSM(
            lm, reward, max_steps=options.max_steps, stop=options.stop, max_tokens=options.max_tokens,
            temperature=options.temperature, top_p=options.top_p, top_k=options.top_k,
        )  # fmt: skip

    def solve(self, problem: str, seed: int) -> Posterior:
        """The posterior of a problem's solutions. The same seed gives the same posterior."""
        options = self.options
        with dead_runs_told(), self._progress() as progress:
            task = progress.add_task("reading the problem", total=None)

            def report(step: StepReport) -> None:
                ess = f"{float(step.ess.mean()):.0f} of {options.particles}"
                progress.update(task, description=f"step {step.step}: ESS {ess}, {step.resamplings} resamplings")

            pyro.set_rng_seed(seed)
            posterior = SMC(
                self.model, num_particles=options.particles, num_runs=options.runs,
                ess_threshold=options.ess_threshold, progress=report,
            ).run(problem)  # fmt: skip
        # What torch reports of itself is the seed that was set last, wherever it has got to since; here it was set just
        # before the run.
        posterior.settings["seed"] = seed
        posterior.settings["command"] = options.settings | {"device": options.device}
        return posterior

    @staticmethod
    def _progress() -> Progress:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        return Progress(*columns, console=errors, transient=True)


def _check_device(device: str | None) -> None:
    if device is None:
        return
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise OptionError(f"--device {device!r} cannot be used here: {reason}") from error
