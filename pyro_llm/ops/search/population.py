"""The particles of a search: scored, and selected by their scores."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pyro_llm.errors import PyroLLMError
from pyro_llm.ops.population import Population
from pyro_llm.ops.search.scores import ScoreName, Scores
from pyro_llm.ops.search.selection import Candidates, SelectionRule
from pyro_llm.ops.steps import Resampling, Step, StepReport
from pyro_llm.ops.weights import check_log_factor


class SearchPopulation(Population):
    """R runs of N particles that have scores and no weights; what the engine would resample, a rule selects.

    Factors make scores, see `Scores`; proposals and auxiliary potentials, which only weights know of, play no part.
    `log_weights` are zero throughout and mean nothing. A factor of 0 is a score like any other: nobody dies.

    Args:
        num_runs: R.
        num_particles: N.
        score: how the factors of a particle become its score.
        rule: selects, whenever there are new factors and the program asks for the next latent value; None: never.
        on_step: called after each factor. Effective sample size and evidence of its report are NaN.
    """

    def __init__(
        self,
        num_runs: int,
        num_particles: int,
        score: ScoreName = "last",
        rule: SelectionRule | None = None,
        on_step: Callable[[StepReport], None] | None = None,
    ) -> None:
        super().__init__(num_runs, num_particles, ess_threshold=0 if rule is None else 1, on_step=on_step)
        self._scores = Scores(score, self.size)
        self._rule, self._selections = rule, 0
        self._identity = torch.zeros(self.size, dtype=torch.int64)
        self._nothing = torch.full((num_runs,), torch.nan, dtype=torch.float64)

    @property
    def scores(self) -> Tensor:
        """The logarithms of the scores. Float64 `[R, N]`."""
        return self._by_run(self._scores.values)

    def note_draw(self, values: Tensor, log_prob: Tensor) -> None:
        """Note a new latent value of each particle, `[P, K]` numbers, and its log-probability, float64 `[P]`."""
        self._scores.note_draw(log_prob)
        if self._rule is not None:
            rows = torch.cat([self._identity[:, None].double(), values.double()], 1)
            self._identity = torch.unique(rows, dim=0, return_inverse=True)[1]

    def fold_judgement(self, name: str, log_factor: Tensor, judged: Tensor | None) -> None:
        """Take in a factor, given by its logarithm `[P]`, of the particles that it judges, bool `[P]`, None for all.

        Raises:
            NonFiniteWeightError: the factor is NaN or plus infinity.
        """
        log_factor = log_factor.detach().cpu().double().reshape(self.size)
        where = f"step {len(self.steps) + 1}, site {name!r}"
        check_log_factor(where, "log-probability of the observation", log_factor)
        self._scores.fold(log_factor, None if judged is None else judged.cpu())
        by_run, generation = self._by_run(log_factor), self.lineage.generation
        self.steps.append(Step(name, by_run, self.log_weights, self._consumed, generation))
        self._folded = True
        if self._on_step is not None:
            self._on_step(StepReport(len(self.steps), name, self._nothing, self._nothing, len(self._resamplings)))

    def fold(self, name: str, log_factor: Tensor) -> None:
        """Take in a factor that judges all particles."""
        self.fold_judgement(name, log_factor, None)

    def reweigh(self, name: str, log_ratio: Tensor) -> None:
        """Nothing: a value is as good as it scores, whatever it was drawn from."""

    def declare_potential(self, part: str, name: str, log_potential: Tensor) -> None:
        """Nothing: a potential guides resampling by weights."""

    def resample_degenerate_runs(self, running: Tensor | None = None) -> bool:
        """Select whose past is continued, if there are new factors.

        Args:
            running: must be None.

        Returns:
            Whether any slot continues another's past.
        """
        if running is not None:
            raise PyroLLMError("A search executes its particles in one batch.")
        if not self._folded or self._rule is None:
            return False
        self._folded = False
        self._selections += 1
        selected = self._rule(Candidates(self.scores, self._by_run(self._identity), self._selections))
        ancestors = selected.ancestors
        if bool((ancestors == self._own_slots).all()):
            return False
        flat = (self._first_slots + ancestors).flatten()
        powers = self._nothing if selected.inverse_temperatures is None else selected.inverse_temperatures
        everyone = torch.ones(self.num_runs, dtype=torch.bool)
        self._resamplings[len(self.steps) - 1] = Resampling(everyone, ancestors, powers, 0)
        self._scores.select(flat)
        self._identity = self._identity[flat]
        self.lineage.resample(flat)
        return True

    def _by_run(self, values: Tensor) -> Tensor:
        return values.reshape(self.num_runs, self.num_particles)
