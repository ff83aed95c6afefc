import math

import pytest
import torch

from pyro_llm.errors import AllParticlesDeadError, DeadRunWarning, NonFiniteWeightError, OptionError
from pyro_llm.ops.population import Population
from pyro_llm.ops.potential import AuxiliaryPotential
from pyro_llm.ops.tempering import AdaptiveTempering, inverse_temperature
from pyro_llm.ops.weights import effective_sample_size

INF = math.inf


def population(num_runs=2, num_particles=50, **options):
    torch.manual_seed(0)
    return Population(num_runs, num_particles, **{"ess_threshold": 1, **options})


def test_the_inverse_temperature_keeps_the_effective_sample_size():
    torch.manual_seed(0)
    log_factor = 3 * torch.randn(5, 100).double()
    log_factor[1] = 0.01 * log_factor[1]
    log_weights = log_factor + 0.1 * torch.randn(5, 100).double()
    power = inverse_temperature(log_weights, log_factor, 0.6)
    ess = effective_sample_size(log_weights - (1 - power)[:, None] * log_factor)
    uneven = torch.tensor([True, False, True, True, True])
    torch.testing.assert_close(ess[uneven], torch.full((4,), 60.0).double())
    assert ess[1] > 60 and power[1] == 1
    assert ((power[uneven] > 0) & (power[uneven] < 1)).all()


def test_weights_that_are_uneven_without_the_factor_leave_it_out():
    log_weights = torch.tensor([[0.0, -50.0, -50.0]]).double()
    assert inverse_temperature(log_weights, torch.tensor([[0.0, 1.0, 2.0]]).double(), 0.9).item() < 1e-9


@pytest.mark.parametrize("ess_target", [0.3, 0.9])
def test_the_power_that_a_resampling_leaves_is_in_the_weights(ess_target):
    """The weights of the offspring are the rest of the factors, and the next temperature is for all that is left."""
    particles = population(tempering=AdaptiveTempering(ess_target))
    for step in range(6):
        particles.fold(f"y_{step}", torch.randn(2, 50) * 2)
        tempered = particles.log_weights + particles.potential.at(particles.potential.temper(particles.log_weights))
        assert (effective_sample_size(tempered) >= ess_target * 50 - 1e-6).all()
        assert particles.resample_degenerate_runs()
        assert particles.history().inverse_temperature[:, step].max() < 1
        weights_without_factors = particles.log_weights + particles.potential.at(torch.zeros(2).double())
        torch.testing.assert_close(weights_without_factors, torch.zeros(2, 50).double())
    assert particles.log_weights.abs().max() > 0.1


def test_after_the_early_phase_all_power_is_used():
    particles = population(tempering=AdaptiveTempering(0.9, num_steps=2))
    for step in range(4):
        particles.fold(f"y_{step}", torch.randn(2, 50) * 2)
        particles.resample_degenerate_runs()
        assert (particles.log_weights == 0).all() == (step >= 2)
    whole = (particles.history().inverse_temperature == 1).all(0)
    assert whole.tolist() == [False, False, True, True]


def test_dead_particles_are_dead_at_every_temperature():
    particles = population(1, 4, tempering=AdaptiveTempering(1.0))
    particles.fold("y", torch.tensor([0.0, -INF, -5.0, -1.0]))
    particles.resample_degenerate_runs()
    assert 1 not in particles.history().ancestors[0, 0].tolist()
    assert torch.isfinite(particles.log_weights).all()


def test_runs_that_are_not_resampled_keep_everything():
    particles = population(2, 2, ess_threshold=0.8, tempering=AdaptiveTempering(0.9))
    particles.declare_potential("twist", "psi", torch.tensor([[0.0, 1.0], [0.0, 0.1]]))
    particles.fold("y", torch.tensor([[0.0, -3.0], [0.1, 0.0]]))
    assert particles.resample_degenerate_runs()
    history = particles.history()
    assert history.resampled.flatten().tolist() == [True, False]
    torch.testing.assert_close(particles.log_weights[1], torch.tensor([0.1, 0.0]).double())
    assert history.inverse_temperature[:, 0].isnan().tolist() == [False, True]
    torch.testing.assert_close(particles.potential.declared[1], torch.tensor([0.0, 0.1]).double())


def test_resampling_goes_by_the_potential_and_divides_it_out():
    particles = population(1, 4, ess_threshold=0.5)
    particles.fold("y", torch.zeros(4))
    assert not particles.resample_degenerate_runs()
    particles.declare_potential("twist", "psi", torch.tensor([0.0, 0.0, 9.0, 0.0]))
    particles.fold("z", torch.zeros(4))
    assert particles.log_evidence().item() == pytest.approx(0.0)
    assert particles.resample_degenerate_runs()
    assert particles.history().ancestors[0, 1].tolist() == [2, 2, 2, 2]
    assert particles.log_weights.tolist() == [[-9.0] * 4]
    assert particles.log_evidence().item() == pytest.approx(math.log((3 + math.exp(9)) / 4) - 9)
    assert particles.potential.declared.tolist() == [[9.0] * 4]
    increments = particles.history().log_evidence_increment
    assert increments.sum().item() == pytest.approx(particles.log_evidence().item())


def test_parts_add_up_and_replace_themselves():
    potential = AuxiliaryPotential(1, 2)
    potential.declare("a", torch.tensor([[1.0, 2.0]]).double())
    potential.declare("b", torch.tensor([[0.5, 0.0]]).double())
    potential.declare("a", torch.tensor([[3.0, 2.0]]).double())
    assert potential.declared.tolist() == [[3.5, 2.0]]


def test_exchanged_runs_take_everything_along():
    potential = AuxiliaryPotential(2, 2, AdaptiveTempering())
    potential.declare("twist", torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double())
    potential.fold(torch.tensor([[0.1, 0.2], [0.3, 0.4]]).double())
    potential.exchange(torch.tensor([1, 1]))
    assert potential.declared.tolist() == [[3.0, 4.0]] * 2
    torch.testing.assert_close(potential.at(torch.zeros(2).double()), torch.tensor([[2.7, 3.6]] * 2).double())


@pytest.mark.parametrize("bad", [math.nan, INF, -INF])
def test_potentials_are_finite(bad):
    particles = population(1, 2)
    with pytest.raises(NonFiniteWeightError, match=rf"twist 'psi' is {bad} for 1 of 2 particles.*bound the potential"):
        particles.declare_potential("twist", "psi", torch.tensor([0.0, bad]))


def test_potentials_of_the_dead_do_not_matter():
    particles = population(1, 2)
    particles.fold("y", torch.tensor([0.0, -INF]))
    particles.declare_potential("twist", "psi", torch.tensor([1.0, -INF]))
    assert particles.potential.declared.tolist() == [[1.0, 0.0]]


def test_reweighing_is_no_step_but_counts():
    particles = population(1, 2)
    particles.reweigh("x", torch.tensor([0.5, 0.1]).log())
    assert not particles.may_resample and not particles.steps
    particles.fold("y", torch.tensor([0.2, 0.4]).log())
    assert particles.log_evidence().exp().item() == pytest.approx((0.5 * 0.2 + 0.1 * 0.4) / 2)
    particles.reweigh("z", torch.tensor([2.0, 2.0]).log())
    assert particles.history().log_evidence_increment.sum().item() == pytest.approx(particles.log_evidence().item())
    torch.testing.assert_close(particles.log_likelihood().exp(), torch.tensor([[0.2, 0.4]]).double())


def test_reweighing_is_checked():
    particles = population(2, 2)
    with pytest.raises(
        NonFiniteWeightError, match="site 'x', the log-ratio of the distribution to its proposal is inf"
    ):
        particles.reweigh("x", torch.tensor([[0.0, INF], [0.0, 0.0]]))
    particles = population(2, 2)
    with pytest.warns(DeadRunWarning, match="site 'x'"):
        particles.reweigh("x", torch.tensor([[-INF, -INF], [0.0, 0.0]]))
    with pytest.raises(AllParticlesDeadError, match="site 'y'"):
        particles.fold("y", torch.full((2, 2), -INF))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ess_target": 0}, "ess_target=0: give a fraction"),
        ({"ess_target": 1.5}, "ess_target=1.5"),
        ({"ess_target": True}, "ess_target=True"),
        ({"ess_target": math.nan}, "ess_target=nan"),
        ({"num_steps": 0}, "num_steps=0: give a number of observed sites"),
        ({"num_steps": 2.5}, "num_steps=2.5"),
    ],
)
def test_options_of_tempering(options, message):
    with pytest.raises(OptionError, match=message):
        AdaptiveTempering(**options)
