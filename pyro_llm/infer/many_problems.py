"""Running an algorithm for many problems, several at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Mapping, Sized
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch

from pyro_llm.errors import FailedRunsError, OptionError
from pyro_llm.infer.concurrent_runs import Outcome, Task, run_concurrently
from pyro_llm.infer.options import check_integer
from pyro_llm.infer.posterior import Posterior
from pyro_llm.infer.progress import EachProgressOption, ProgressOption, progress_of_each

DEFAULT_CONCURRENT = 8


class ManyProblems(ABC):
    """Runs for each of many problems; the base of all algorithms, which say how a single run is made.

    Attributes:
        progress: as for `SMC`.
    """

    progress: ProgressOption

    @abstractmethod
    def run(self, *args: Any, **kwargs: Any) -> Posterior:
        """Run the algorithm; the arguments go to the program."""

    def run_each(
        self,
        problems: Iterable[Any],
        *,
        concurrent: int = DEFAULT_CONCURRENT,
        seeds: Iterable[int] | None = None,
        progress: EachProgressOption = None,
    ) -> list[Posterior]:
        """Run the algorithm once for each problem, several at a time: what language models and rewards are asked by
        one and another goes through them in common batches, and no run waits for another one's slowest particle.

        The posterior of a problem is that of `pyro.set_rng_seed(seed)` and `run(problem)`, with the problem's seed: it
        does not depend on what runs beside it, but for rounding where a model's arithmetic depends on the size of the
        batch. Costs are those of each run; a forward pass that serves several counts for each of them.

        Args:
            problems: what the program is given: a tuple is its positional arguments, a mapping its keyword arguments,
                anything else its only argument. Taken one by one as runs begin.
            concurrent: how many runs are in progress at a time. Memory need not decide it: beyond the budget of a
                language model its rows take turns.
            seeds: one for each problem; by default, all are derived from one draw from torch's generator.
            progress: a status line on standard error: yes, no, or (None) if that is a terminal; or a function called
                with the index of the problem and a `StepReport` after each step of each run.

        Returns:
            The posteriors, in the order of the problems.

        Raises:
            FailedRunsError: some runs raised an error, the others have gone on to their end: all are in its `outcomes`.
            OptionError: `concurrent` is not an integer of at least 1, `problems` is a single text or mapping, or there
                are fewer seeds than problems.

        Examples:
            >>> import torch, pyro, pyro.distributions as dist
            >>> from pyro_llm.infer import SMC
            >>> def coin(heads):
            ...     p = pyro.sample("p", dist.Uniform(0.0, 1.0))
            ...     pyro.sample("heads", dist.Binomial(10, p), obs=torch.tensor(heads))
            >>> smc = SMC(coin, num_particles=1000)
            >>> [round(posterior.samples["p"].mean().item(), 1) for posterior in smc.run_each([2.0, 5.0], seeds=[0, 1])]
            [0.5, 0.5]
        """
        outcomes = sorted(
            self.iter_each(problems, concurrent=concurrent, seeds=seeds, progress=progress),
            key=lambda outcome: outcome.index,
        )
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if failed:
            first = failed[0]
            raise FailedRunsError(
                f"{len(failed)} of {len(outcomes)} runs failed, first that of problem {first.index}: "
                f"{type(first.error).__name__}: {first.error} (The posteriors of the others, and all errors, are in "
                "this error's `outcomes`; `iter_each` gives each as it comes.)",
                outcomes,
            ) from first.error
        return [outcome.posterior for outcome in outcomes if outcome.posterior is not None]

    def iter_each(
        self,
        problems: Iterable[Any],
        *,
        concurrent: int = DEFAULT_CONCURRENT,
        seeds: Iterable[int] | None = None,
        progress: EachProgressOption = None,
    ) -> Generator[Outcome]:
        """As `run_each`, giving each posterior, or the error of its run, as soon as it is there.

        An error of one run does not stop the others. Interrupted or closed (a `break` does it), it ends the runs in
        progress. An error of the iterable of problems is raised once they have come to their end.

        Returns:
            An iterator over outcomes, in the order in which they come.

        Raises:
            OptionError: `concurrent` is not an integer of at least 1, or `problems` is a single text or mapping.
        """
        concurrent = check_integer("concurrent", concurrent, at_least=1)
        if isinstance(problems, str | bytes | Mapping):
            raise OptionError(f"problems={problems!r} is one problem: give a list of problems, or use `run`.")
        total = len(problems) if isinstance(problems, Sized) else None
        if seeds is None:
            seeds = _derived_seeds(int(torch.randint(2**63 - 1, ())))
        return self._iterate(problems, seeds, concurrent, progress, total)

    def _iterate(
        self,
        problems: Iterable[Any],
        seeds: Iterable[int],
        concurrent: int,
        progress: EachProgressOption,
        total: int | None,
    ) -> Generator[Outcome]:
        with progress_of_each(progress, type(self).__name__, total) as show:
            tasks = (
                Task(index, problem, partial(self._run_seeded, problem, seed, show.steps_of(index)))
                for index, (problem, seed) in enumerate(_with_seeds(problems, seeds))
            )
            for outcome in run_concurrently(tasks, concurrent):
                show.done()
                yield outcome

    def _run_seeded(self, problem: Any, seed: int, progress: ProgressOption) -> Posterior:
        alone = copy(self)
        alone.progress = progress
        pyro.set_rng_seed(seed)
        if isinstance(problem, tuple):
            return alone.run(*problem)
        return alone.run(**problem) if isinstance(problem, Mapping) else alone.run(problem)


def _with_seeds(problems: Iterable[Any], seeds: Iterable[int]) -> Iterator[tuple[Any, int]]:
    of_problems = iter(seeds)
    for index, problem in enumerate(problems):
        seed = next(of_problems, None)
        if seed is None:
            raise OptionError(f"seeds: there are {index}, and more problems than that; give one for each problem.")
        yield problem, seed


def _derived_seeds(base: int) -> Iterator[int]:
    index = 0
    while True:
        yield int(np.random.SeedSequence(base, spawn_key=(index,)).generate_state(1)[0])
        index += 1
