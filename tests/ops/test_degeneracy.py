import torch

from pyro_llm.ops.degeneracy import dead_share, indifferent_steps, resamplings_since_coalescence

OWN = torch.arange(3).expand(1, 4, 3)


def log(rows):
    return torch.tensor([rows], dtype=torch.float64).log()


def test_equal_factors_and_certain_ones():
    found = indifferent_steps(log([[0.5, 0.5, 0.5], [1, 1, 1], [0.2, 0.9, 0.9], [0.995, 0.991, 1]]), OWN)
    assert found.compared.tolist() == [[True] * 4]
    assert found.equal.tolist() == [[True, True, False, False]]
    assert found.certain.tolist() == [[False, True, False, True]]


def test_particles_that_have_ended_are_left_out():
    """The first ends after two steps, the others go on with equal factors; a lone particle is told from none."""
    found = indifferent_steps(log([[0.5, 0.5, 0.5], [0.3, 0.3, 0.3], [1, 0.4, 0.4], [1, 1, 0.4]]), OWN)
    assert found.equal.tolist() == [[True, True, True, False]]
    assert found.compared.tolist() == [[True, True, True, False]]


def test_a_factor_of_one_is_told_from_an_end():
    """The first particle has factors of exactly 1 from the beginning, the second in the middle."""
    found = indifferent_steps(log([[1, 0.5, 0.5], [1, 1, 0.5], [1, 0.5, 0.5], [1, 0.5, 0.5]]), OWN)
    assert found.equal.tolist() == [[False] * 4]


def test_ends_are_followed_along_ancestors():
    """All descend from the one that has ended at step 1; slot numbers change."""
    ancestors = torch.tensor([[[0, 1, 2], [2, 2, 2], [0, 1, 2]]])
    found = indifferent_steps(log([[0.5, 0.4, 0.5], [0.2, 0.3, 0.9], [1, 1, 1]]), ancestors)
    assert found.compared.tolist() == [[True, True, False]]


def test_impossible_factors():
    found = indifferent_steps(log([[0, 0.5, 0.5], [0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]]), OWN)
    assert found.equal[0, :2].tolist() == [False, False]
    assert found.compared[0, :2].tolist() == [True, False]


def test_dead_share():
    ancestors = torch.tensor([[[0, 1, 2], [1, 1, 2], [0, 1, 2]]])
    factors = log([[0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0, 0.5]])
    torch.testing.assert_close(dead_share(factors, ancestors), torch.tensor([[1 / 3, 1 / 3, 1 / 3]]).double())
    factors = log([[0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    torch.testing.assert_close(dead_share(factors, ancestors), torch.tensor([[1 / 3, 1 / 3, 0]]).double())


def test_resamplings_since_coalescence():
    own = [0, 1, 2]
    ancestors = torch.tensor([[own, [1, 1, 1], own, [0, 0, 2]], [own, own, own, own], [[0, 0, 0], own, own, [2, 1, 0]]])
    resampled = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]]).bool()
    assert resamplings_since_coalescence(ancestors, resampled).tolist() == [2, -1, 4]
    assert resamplings_since_coalescence(ancestors[..., :1] * 0, resampled).tolist() == [-1, -1, -1]


def test_no_steps():
    none = torch.empty(2, 0, 3)
    assert indifferent_steps(none.double(), none.long()).equal.shape == (2, 0)
    assert dead_share(none.double(), none.long()).shape == (2, 0)
    assert resamplings_since_coalescence(none.long(), torch.empty(2, 0, dtype=torch.bool)).tolist() == [-1, -1]
