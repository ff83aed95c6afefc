"""Factors of conditional SMC, raised to a power by run."""

import pytest
import torch

from pyro_llm.errors import NonFiniteWeightError
from pyro_llm.ops.conditional import ConditionalPopulation


def population(*inverse_temperatures):
    powers = torch.tensor(inverse_temperatures, dtype=torch.float64)
    return ConditionalPopulation(len(powers), 2, 0.5, conditional=False, inverse_temperatures=powers)


def test_impossible_particles_live_at_power_zero_only():
    ladder = population(1.0, 0.5, 0.0)
    ladder.fold("y", torch.tensor([[0.0, -torch.inf], [-2.0, -torch.inf], [-2.0, -torch.inf]]))
    assert ladder.log_weights.tolist() == [[0.0, -torch.inf], [-1.0, -torch.inf], [0.0, 0.0]]
    assert ladder.log_factors()[0].isneginf().any(-1).all()  # what swaps go by is not tempered


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_no_power_hides_a_factor_that_is_none(bad):
    with pytest.raises(NonFiniteWeightError, match="site 'y'"):
        population(1.0, 0.0).fold("y", torch.tensor([[0.0, 0.0], [0.0, bad]]))
