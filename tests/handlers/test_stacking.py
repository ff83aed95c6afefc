from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_llm.handlers.stacking import stack_ragged, stack_structures


@dataclass
class Row:
    tokens: Tensor

    def map_tensors(self, fn):
        return Row(fn(self.tokens, 1))

    @classmethod
    def stack(cls, rows):
        return cls(stack_ragged([row.tokens for row in rows]))


def test_missing_and_short_floats_are_nan():
    stacked = stack_ragged([torch.tensor([1.0]), None, torch.tensor([2.0, 3.0])])
    expected = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan], [2.0, 3.0]])
    torch.testing.assert_close(stacked, expected, equal_nan=True)


def test_missing_booleans_become_integers():
    assert stack_ragged([torch.tensor(True), None, torch.tensor(False)]).tolist() == [1, -1, 0]
    assert stack_ragged([torch.tensor(True), torch.tensor(False)]).dtype == torch.bool


def test_types_are_promoted():
    assert stack_ragged([torch.tensor(1), torch.tensor(0.5)]).tolist() == [1.0, 0.5]


def test_different_numbers_of_dimensions_are_an_error():
    with pytest.raises(ValueError, match=r"different numbers of dimensions.*\(\), \(2,\)"):
        stack_ragged([torch.zeros(2), torch.zeros(())])


def test_structures():
    values = [{"n": n, "x": torch.tensor([n, n]), "row": Row(torch.arange(n)), "none": None} for n in range(4)]
    stacked = stack_structures(values, (2, 2))
    assert stacked["n"].tolist() == [[0, 1], [2, 3]]
    assert stacked["x"].shape == (2, 2, 2) and stacked["none"] is None
    assert stacked["row"].tokens[1, 1].tolist() == [0, 1, 2] and stacked["row"].tokens[0, 1].tolist() == [0, -1, -1]


def test_numbers_of_python_keep_their_kind():
    assert stack_structures([True, False], (1, 2)).dtype == torch.bool
    assert stack_structures([1, 2], (1, 2)).dtype == torch.int64
    assert stack_structures([1.0, 2], (1, 2)).dtype == torch.float64


def test_anything_else_becomes_an_object_array():
    for values in (["a", "b"], [1, "b"], [[1], [1, 2]]):
        stacked = stack_structures(values, (1, 2))
        assert isinstance(stacked, np.ndarray) and stacked.dtype == object and stacked.shape == (1, 2)
        assert stacked[0, 1] == values[1]
