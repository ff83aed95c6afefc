import torch

from pyro_llm.ops.genealogy import coalescence_step, roots, trace_lineages, unique_ancestors

# Two runs, three steps, four particles. In run 1 nothing is ever resampled.
ANCESTORS = torch.tensor(
    [
        [[0, 0, 2, 3], [1, 1, 2, 2], [0, 1, 2, 3]],
        [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]],
    ]
)


def test_lineages_by_hand():
    expected = torch.tensor([[0, 0, 2, 2], [1, 1, 2, 2], [0, 1, 2, 3]])
    assert torch.equal(trace_lineages(ANCESTORS)[0], expected)
    assert torch.equal(trace_lineages(ANCESTORS)[1], ANCESTORS[1])


def test_lineages_against_a_loop_over_particles():
    ancestors = torch.randint(5, (3, 7, 5), generator=torch.Generator().manual_seed(0))
    lineages = trace_lineages(ancestors)
    for run in range(3):
        for particle in range(5):
            slot = particle
            for step in reversed(range(7)):
                slot = int(ancestors[run, step, slot])
                assert lineages[run, step, particle] == slot


def test_unique_ancestors_and_roots():
    assert unique_ancestors(ANCESTORS).tolist() == [[2, 2, 4], [4, 4, 4]]
    assert roots(ANCESTORS).tolist() == [[0, 0, 2, 2], [0, 1, 2, 3]]


def test_coalescence():
    coalesced = torch.tensor([[[0, 0, 0], [2, 2, 2], [0, 0, 1]]])
    assert coalescence_step(coalesced).tolist() == [1]
    assert coalescence_step(ANCESTORS).tolist() == [-1, -1]


def test_no_steps():
    none = torch.empty(2, 0, 3, dtype=torch.long)
    assert unique_ancestors(none).shape == (2, 0)
    assert roots(none).tolist() == [[0, 1, 2]] * 2
    assert coalescence_step(none).tolist() == [-1, -1]
