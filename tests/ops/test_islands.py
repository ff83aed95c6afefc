import pytest
import torch

from pyro_llm.errors import OptionError
from pyro_llm.ops.genealogy import trace_lineages
from pyro_llm.ops.islands import Islands
from pyro_llm.ops.population import Population
from pyro_llm.ops.resampling_rule import checked
from pyro_llm.ops.tempering import AdaptiveTempering
from pyro_llm.ops.variance import relative_variance

RUNS, PARTICLES, STEPS = 5, 4, 9


def test_all_islands_have_the_mean_evidence_after_an_exchange():
    torch.manual_seed(0)
    log_evidence = torch.tensor([1.0, 2.0, 5.0, 0.0], dtype=torch.float64).log()
    exchange = Islands(1).exchange(log_evidence, step=0)
    torch.testing.assert_close(
        (log_evidence[exchange.ancestors] + exchange.log_shift).exp(), torch.full((4,), 2.0).double()
    )
    assert 3 not in exchange.ancestors.tolist()


def test_islands_are_exchanged_below_the_threshold_only():
    log_evidence = torch.tensor([1.0, 1.0, 1.0, 5.0], dtype=torch.float64).log()  # effective sample size 64 / 28
    assert Islands(0.55).exchange(log_evidence, step=0) is None
    assert Islands(0.6).exchange(log_evidence, step=0) is not None
    assert not Islands(None).enabled and not Islands(0).enabled


@pytest.mark.parametrize("tempering", [None, AdaptiveTempering(0.9)])
@pytest.mark.parametrize("island_threshold", [0.6, 1])
@pytest.mark.parametrize("ess_threshold", [0, 0.7, 1])
def test_history_is_that_of_the_runs_descended_from(island_threshold, ess_threshold, tempering):
    """Against particles that carry their own history along: slot, run and factor at each step."""
    torch.manual_seed(1)
    population = Population(
        RUNS, PARTICLES, ess_threshold, "optimal", tempering=tempering, island_threshold=island_threshold
    )
    carried = []
    for step in range(STEPS):
        factor = 1.5 * torch.randn(RUNS, PARTICLES, dtype=torch.float64)
        slots = torch.arange(RUNS * PARTICLES)
        carried.append({"factor": factor.flatten(), "run": slots // PARTICLES, "slot": slots % PARTICLES})
        population.fold(f"y_{step}", factor)
        potential = torch.randn(RUNS, PARTICLES, dtype=torch.float64)
        if tempering is not None:
            population.declare_potential("twist", "psi", potential)
            carried[-1]["potential"] = potential.flatten()
        generation = population.lineage.generation
        if step < STEPS - 1 and population.resample_degenerate_runs():
            index = population.lineage.ancestors_in(generation)
            carried = [{name: value[index] for name, value in record.items()} for record in carried]
            if tempering is not None:  # the potential goes along with its particles
                assert torch.equal(population.potential.declared.flatten(), carried[-1]["potential"])
    history = population.history()
    assert history.exchanged.any() and history.resampled.any() == (ess_threshold > 0)
    lineages = trace_lineages(history.ancestors)
    for step, record in enumerate(carried):
        runs = record["run"].reshape(RUNS, PARTICLES)
        assert torch.equal(runs, history.islands[:, step, None].expand(RUNS, PARTICLES))
        slots = record["slot"].reshape(RUNS, PARTICLES)
        assert torch.equal(slots, lineages[:, step])
        torch.testing.assert_close(record["factor"].reshape(slots.shape), history.log_factor[:, step].gather(-1, slots))
    total = torch.stack([record["factor"] for record in carried]).sum(0).reshape(RUNS, PARTICLES)
    torch.testing.assert_close(population.log_likelihood(), total)
    torch.testing.assert_close(history.log_evidence_increment.sum(-1), population.log_evidence())
    assert torch.equal(history.inverse_temperature.isnan(), ~history.resampled)
    tempered = history.inverse_temperature[history.resampled]
    assert (tempered <= 1).all() and (tempered < 1).any() == (tempering is not None and ess_threshold > 0)


def test_exchange_counts_for_the_step_before():
    """After an exchange all runs have the same evidence, which the increments up to that step add up to."""
    torch.manual_seed(3)
    population = Population(3, 2, ess_threshold=0, island_threshold=1)
    population.fold("y_0", torch.randn(3, 2).double())
    mean = population.log_evidence().logsumexp(0) - torch.tensor(3.0).double().log()
    population.resample_degenerate_runs()
    population.fold("y_1", torch.randn(3, 2).double())
    torch.testing.assert_close(population.history().log_evidence_increment[:, 0], mean.expand(3))


def test_exchange_keeps_the_weighted_mean_over_all_particles_on_average():
    """Null: E[sum over runs of Z-hat_r W_rn] stays, for each particle. 4,000 exchanges, 4 s.e.: 8e-4 false alarms."""
    torch.manual_seed(2)
    weights = torch.rand(3, 4, dtype=torch.float64)
    kept = []
    for _ in range(4000):
        population = Population(3, 4, ess_threshold=1, island_threshold=1)
        population.fold("y", weights.log())
        population.resample_degenerate_runs()
        share = (population.normalised_log_weights() + population.log_evidence()[:, None]).exp().flatten()
        kept.append(torch.zeros(12).double().scatter_add_(0, population.lineage.ancestors_in(0), share))
    kept = torch.stack(kept)
    assert ((kept.mean(0) - weights.flatten() / 4).abs() <= 4 * kept.std(0) / 4000**0.5).all()


def test_relative_variance_by_hand():
    weights = torch.tensor([[0.5, 0.25, 0.25]], dtype=torch.float64)
    founders = torch.tensor([[0, 0, 2]])
    # Pairs of another founder: 2 (0.5 + 0.25) 0.25 = 0.375; one resampling: (3 / 2)^2.
    assert relative_variance(weights.log(), founders, torch.tensor([1])).item() == pytest.approx(1 - 2.25 * 0.375)
    alone = relative_variance(torch.zeros(1, 1), torch.zeros(1, 1, dtype=torch.long), torch.tensor([0]))
    dead = relative_variance(torch.full((1, 2), -torch.inf), torch.tensor([[0, 1]]), torch.tensor([0]))
    assert alone.isnan().all() and dead.isnan().all()


def test_without_resampling_it_is_the_variance_of_a_mean():
    weights = torch.rand(3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    variance = relative_variance(weights.log(), torch.arange(7).expand(3, 7), torch.zeros(3))
    torch.testing.assert_close(variance, weights.var(-1) / 7 / weights.mean(-1) ** 2)


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (True, "a bool"),
        (torch.tensor([1, 0]), r"a tensor of shape \[2\] and torch.int64"),
        (torch.ones(2, 3, dtype=torch.bool), r"a tensor of shape \[2, 3\] and torch.bool"),
        (None, "a NoneType"),
    ],
)
def test_what_a_rule_returns_is_checked(returned, found):
    with pytest.raises(OptionError, match=rf"resample_when returned {found}.*a bool tensor of shape \[2\]"):
        checked(lambda log_weights: returned)(torch.zeros(2, 3))


def test_a_rule_of_ones_own_decides_and_cannot_change_the_weights():
    seen = []

    def first_run(log_weights):
        seen.append(log_weights.clone())
        log_weights.zero_()
        return torch.tensor([True, False])

    population = Population(2, 2, ess_threshold=0, resample_when=first_run)
    factor = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64).log()
    population.fold("y", factor)
    assert population.resample_degenerate_runs()
    assert torch.equal(seen[0], factor)
    assert population.history().resampled.tolist() == [[True], [False]]
    assert torch.equal(population.log_weights[1], factor[1])
