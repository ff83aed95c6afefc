import math

import pytest
import torch

from pyro_llm.errors import AllParticlesDeadError, DeadRunWarning, NonFiniteWeightError
from pyro_llm.ops.population import Population

INF = math.inf


def fold(population, name, *runs):
    population.fold(name, torch.tensor(runs).log())


def test_evidence_without_resampling_is_the_mean_product():
    population = Population(1, 2, ess_threshold=0)
    fold(population, "a", [0.5, 0.1])
    assert not population.resample_degenerate_runs()
    fold(population, "b", [0.2, 0.4])
    expected = torch.tensor([(0.5 * 0.2 + 0.1 * 0.4) / 2], dtype=torch.float64)
    torch.testing.assert_close(population.log_evidence().exp(), expected)
    torch.testing.assert_close(population.normalised_log_weights().exp(), torch.tensor([[0.1, 0.04]]).double() / 0.14)


def test_evidence_with_resampling_is_the_product_of_means():
    population = Population(1, 2, ess_threshold=1)
    fold(population, "a", [0.5, 0.1])
    assert population.resample_degenerate_runs()
    assert torch.equal(population.log_weights, torch.zeros(1, 2))
    fold(population, "b", [0.2, 0.4])
    torch.testing.assert_close(population.log_evidence().exp(), torch.tensor([0.3 * 0.3], dtype=torch.float64))


def test_increments_sum_to_the_evidence():
    torch.manual_seed(0)
    population = Population(3, 4, ess_threshold=0.6)
    for step in range(12):
        population.fold(f"y_{step}", torch.randn(3, 4))
        population.resample_degenerate_runs()
    history = population.history()
    assert history.resampled.any() and not history.resampled.all()
    torch.testing.assert_close(history.log_evidence_increment.sum(-1), population.log_evidence())


def test_each_run_resamples_by_its_own_effective_sample_size():
    population = Population(2, 3, ess_threshold=0.5)
    fold(population, "y", [1.0, 0.0, 0.0], [0.5, 0.4, 0.6])
    assert population.resample_degenerate_runs()
    history = population.history()
    assert history.resampled.tolist() == [[True], [False]]
    assert history.ancestors[:, 0].tolist() == [[0, 0, 0], [0, 1, 2]]
    assert population.lineage.ancestors_in(0).tolist() == [0, 0, 0, 3, 4, 5]
    torch.testing.assert_close(population.log_weights[1].exp(), torch.tensor([0.5, 0.4, 0.6]).double())
    assert population.log_weights[0].tolist() == [0, 0, 0]


def test_runs_that_have_ended_are_left_alone():
    population = Population(2, 2, ess_threshold=1)
    fold(population, "y", [1.0, 2.0], [1.0, 2.0])
    assert population.resample_degenerate_runs(running=torch.tensor([True, False]))
    assert population.history().resampled.tolist() == [[True], [False]]


def test_a_factor_is_used_by_one_resampling_only():
    population = Population(1, 2, ess_threshold=1)
    assert not population.resample_degenerate_runs()
    fold(population, "y", [1.0, 3.0])
    assert population.resample_degenerate_runs()
    assert not population.resample_degenerate_runs()


def test_threshold_of_one_resamples_equal_weights_too_and_zero_never():
    for threshold, expected in ((1, True), (0.99, False), (0, False)):
        population = Population(1, 4, ess_threshold=threshold)
        fold(population, "y", [0.25] * 4)
        assert population.resample_degenerate_runs() is expected


def test_log_likelihood_follows_the_lineage():
    population = Population(1, 2, ess_threshold=0.9)
    fold(population, "a", [1.0, 1e-30])
    population.resample_degenerate_runs()
    fold(population, "b", [0.5, 0.25])
    assert population.history().ancestors[0, 0].tolist() == [0, 0]
    torch.testing.assert_close(population.log_likelihood().exp(), torch.tensor([[0.5, 0.25]]).double())


def test_reports_after_each_factor():
    reports = []
    population = Population(1, 2, ess_threshold=1, on_step=reports.append)
    fold(population, "a", [0.5, 0.1])
    population.resample_degenerate_runs()
    fold(population, "b", [0.2, 0.2])
    assert [(report.step, report.name, report.resamplings) for report in reports] == [(1, "a", 0), (2, "b", 1)]
    torch.testing.assert_close(reports[1].log_evidence, population.log_evidence())
    torch.testing.assert_close(reports[1].ess, torch.tensor([2.0]).double())


@pytest.mark.parametrize(("bad", "shown"), [(math.nan, "nan"), (INF, "inf")])
def test_non_finite_factor(bad, shown):
    population = Population(2, 2, ess_threshold=0.5)
    fold(population, "fine", [1.0, 1.0], [1.0, 1.0])
    with pytest.raises(NonFiniteWeightError, match=rf"step 2, site 'broken'.* is {shown} for 1 of 4 particles"):
        population.fold("broken", torch.tensor([[0.0, 0.0], [bad, 0.0]]))


def test_non_finite_factor_of_a_dead_particle_is_an_error_too():
    population = Population(1, 2, ess_threshold=0.5)
    fold(population, "y", [0.0, 1.0])
    with pytest.raises(NonFiniteWeightError):
        population.fold("broken", torch.tensor([[INF, 0.0]]))


def test_a_dead_population_is_an_error_that_says_where():
    population = Population(2, 2, ess_threshold=0.5)
    fold(population, "a", [0.5, 0.1], [1.0, 1.0])
    with pytest.raises(AllParticlesDeadError, match=r"step 2, site 'b', all 2 particles .* in each of 2 runs"):
        fold(population, "b", [0.0, 0.0], [0.0, 0.0])


@pytest.mark.parametrize("ess_threshold", [0, 0.5, 1])
def test_a_dead_run_has_no_evidence_and_the_others_go_on(ess_threshold):
    torch.manual_seed(0)
    population = Population(2, 2, ess_threshold=ess_threshold)
    with pytest.warns(DeadRunWarning, match="site 'a', all particles of 1 of 2 runs"):
        fold(population, "a", [0.0, 0.0], [0.5, 0.1])
    assert population.resample_degenerate_runs() == (ess_threshold == 1)
    fold(population, "b", [1.0, 1.0], [1.0, 1.0])  # warned of once
    history = population.history()
    assert not history.resampled[0].any()
    assert history.log_evidence_increment[0].tolist() == [-INF, 0]
    torch.testing.assert_close(history.log_evidence_increment.sum(-1), population.log_evidence())
    torch.testing.assert_close(population.log_evidence().exp(), torch.tensor([0.0, 0.3], dtype=torch.float64))
    assert population.normalised_log_weights()[0].tolist() == [-INF, -INF]
    assert history.ess[0].tolist() == [0, 0]
