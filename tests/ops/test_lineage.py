import torch

from pyro_llm.ops.lineage import Lineage


def test_carrying_equals_gathering_at_each_resampling():
    generator = torch.Generator().manual_seed(0)
    lineage, eager, recorded = Lineage(), [], []
    for generation in range(6):
        values = torch.randn(8, 2, generator=generator)
        eager.append(values)
        recorded.append((values, generation))
        slots = torch.randint(8, (8,), generator=generator)
        lineage.resample(slots)
        eager = [kept[slots] for kept in eager]
        if generation % 2:  # what is asked for in between must not spoil what is asked for later
            lineage.carry(recorded[0][0], 0)
    for (values, generation), expected in zip(recorded, eager, strict=True):
        assert torch.equal(lineage.carry(values, generation), expected)


def test_nothing_changes_in_the_present_generation():
    lineage = Lineage()
    lineage.resample(torch.tensor([1, 1]))
    values = torch.tensor([3.0, 4.0])
    assert lineage.generation == 1 and lineage.ancestors_in(1) is None
    assert lineage.carry(values, 1) is values
