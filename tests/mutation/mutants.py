"""Ways to break the engine, each a replacement of text in the package, and the tests that must notice.

A replacement is of code that exists exactly once; when it does not any more, say the same thing of the new code.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One way to break the engine.

    Attributes:
        name: what is wrong then.
        file: relative to the package.
        old: text that occurs exactly once in it.
        new: what takes its place.
        tests: of the exactness suite, as arguments of pytest; the smallest selection that is about it.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


CONDITIONAL_SMC = "tests/statistical/test_conditional_smc.py"
HIDDEN_MARKOV = "tests/statistical/test_hidden_markov.py::test_evidence_and_smoothed_states"
LARGE_POPULATIONS = "tests/statistical/test_large_populations.py"

LAST_SCORE = """
    def _by_particle(self, name: str, log_prob: Tensor) -> Tensor:
        found = super()._by_particle(name, log_prob)
        if self.reference is None or name not in self.reference.log_factors:
            return found
        *_, last = self.reference.log_factors.values()
        return found.detach().cpu().double().index_copy(0, self.reference_slots, last)
"""

MUTANTS = (
    Mutant(
        "weights used twice: drawn by, and kept",
        "ops/population.py",
        "offspring = drawn.log_weights",
        "offspring = log_weights.gather(-1, ancestors)",
        (HIDDEN_MARKOV,),
    ),
    Mutant(
        "ancestors sorted in conditional SMC",
        "ops/conditional.py",
        "fresh = self.draw_slots(drawn_by, self.num_particles - 1)",
        "fresh = self.draw_slots(drawn_by, self.num_particles).sort(-1).values[:, 1:]",
        (f"{CONDITIONAL_SMC}::test_the_posterior_is_invariant",),
    ),
    Mutant(
        "the reference weighed by its last score",
        "handlers/conditional_messenger.py",
        "\n    def _log_prior(self, msg: Any) -> Tensor:",
        f"{LAST_SCORE}\n    def _log_prior(self, msg: Any) -> Tensor:",
        ("tests/statistical/test_particle_gibbs.py::test_smoothing_against_forward_backward",),
    ),
    Mutant(
        "a missing log N",
        "ops/weights.py",
        "return torch.where(peak.isinf(), peak, total) - math.log(log_weights.shape[dim])",
        "return torch.where(peak.isinf(), peak, total)",
        (HIDDEN_MARKOV,),
    ),
    Mutant(
        "a factor not masked after finishing",
        "distributions/accept.py",
        "~state.judged(reward))",
        "torch.ones_like(state.judged(reward)))",
        ("tests/statistical/test_table_lm.py::test_early_finishers",),
    ),
    Mutant(
        "an ancestor index shifted by one",
        "ops/population.py",
        "ancestors = _in_runs(degenerate, drawn.ancestors, self._own_slots)",
        "ancestors = _in_runs(degenerate, (drawn.ancestors + 1) % self.num_particles, self._own_slots)",
        (HIDDEN_MARKOV,),
    ),
    Mutant(
        "a swap ratio inverted",
        "ops/replica_exchange.py",
        "(log_likelihood[:, 1:] - log_likelihood[:, :-1])",
        "(log_likelihood[:, :-1] - log_likelihood[:, 1:])",
        ("tests/statistical/test_parallel_tempering.py::test_detailed_balance_of_the_swap",),
    ),
    Mutant(
        "a proposal weight left out",
        "handlers/proposals.py",
        "return log_p, log_p - log_q",
        "return log_p, log_q - log_q",
        ("tests/statistical/test_optimal_particles.py::test_locally_optimal_proposal",),
    ),
    Mutant(
        "a resampled weight not reset",
        "ops/population.py",
        "self.log_weights = _in_runs(degenerate, offspring, self.log_weights)",
        "self.log_weights = _in_runs(degenerate, self.log_weights, self.log_weights)",
        (HIDDEN_MARKOV,),
    ),
    Mutant(
        "weights in float32 at large N: those resampled by",
        "ops/resampling/inversion.py",
        "cumulative = weights.cumsum(-1)",
        "cumulative = weights.float().cumsum(-1).double()",
        (LARGE_POPULATIONS,),
    ),
    Mutant(
        "weights in float32 at large N: those of the evidence",
        "ops/population.py",
        "self.log_weights = before + log_factor",
        "self.log_weights = (before + log_factor).float()",
        (LARGE_POPULATIONS,),
    ),
)
