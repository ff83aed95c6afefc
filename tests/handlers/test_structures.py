from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from pyro_llm.handlers.structures import ParticleAxis, agree, copy_structure, map_structure, tensors_of


class Pair(NamedTuple):
    left: Tensor
    right: Tensor


@dataclass
class Rows:
    """As a text state: tokens with an event dimension, flags without, shared data that it does not map."""

    tokens: Tensor
    done: Tensor
    shared: Tensor

    def map_tensors(self, fn):
        return Rows(fn(self.tokens, 1), fn(self.done, 0), self.shared)


AXIS = ParticleAxis(num_runs=2, num_particles=3, dim=-1)
SLOTS = torch.tensor([1, 1, 0, 5, 5, 5])


def test_gather_reaches_into_structures():
    batched, shared = torch.arange(6), torch.arange(4)
    value = {"a": [batched, shared], "b": Pair(batched, shared), "c": (batched, "text", None)}
    gathered = AXIS.gather(value, SLOTS)
    for found in (gathered["a"][0], gathered["b"].left, gathered["c"][0]):
        assert torch.equal(found, SLOTS)
    assert gathered["a"][1] is shared and isinstance(gathered["b"], Pair) and gathered["c"][1:] == ("text", None)


def test_objects_that_declare_event_dimensions_are_gathered_exactly():
    shared_prompt = torch.arange(6)  # looks like one number per particle, but is a row of tokens
    rows = AXIS.gather(Rows(shared_prompt, torch.arange(6), torch.arange(6)), SLOTS)
    assert rows.tokens is shared_prompt
    assert torch.equal(rows.done, SLOTS) and torch.equal(rows.shared, torch.arange(6))


@pytest.mark.parametrize(
    ("shape", "event_dim", "dim", "index"),
    [
        ((6,), 0, -1, 0),
        ((6, 4), 1, -1, 0),
        ((6, 4), None, -1, 0),
        ((4, 6), 1, -1, None),
        ((6,), 1, -1, None),
        ((), 0, -1, None),
        ((6, 1), 0, -2, 0),
        ((6,), None, -2, None),
        ((6,), 0, -2, None),
        ((1, 6, 2), 0, -2, 1),
        ((6, 2, 5), 1, -2, 0),
    ],
)
def test_particle_dimension(shape, event_dim, dim, index):
    assert ParticleAxis(2, 3, dim).find(torch.zeros(shape), event_dim) == index


def test_splitting_into_runs():
    value = {"batched": torch.arange(12).reshape(6, 2), "shared": torch.zeros(5)}
    split = AXIS.split_runs(value)
    assert split["batched"].shape == (2, 3, 2) and split["shared"].shape == (5,)
    assert torch.equal(split["batched"][1, 0], torch.tensor([6, 7]))


def test_splitting_expands_what_declares_itself_shared():
    rows = AXIS.split_runs(Rows(torch.arange(4), torch.tensor(True), torch.arange(6)))
    assert rows.tokens.shape == (2, 3, 4) and rows.done.shape == (2, 3)


def test_arrays_of_objects_are_structures_too():
    words = np.array(["a", "b", "c", "d", "e", "f"], dtype=object)
    assert AXIS.gather(words, SLOTS).tolist() == ["b", "b", "a", "f", "f", "f"]
    assert AXIS.split_runs(words).tolist() == [["a", "b", "c"], ["d", "e", "f"]]
    assert map_structure(lambda tensor, event_dim: tensor[3], words) == "d"


def test_copies_are_safe_from_changes_in_place():
    original = {"x": torch.zeros(2)}
    copied = copy_structure(original)
    original["x"] += 1
    assert torch.equal(copied["x"], torch.zeros(2))


def test_arrays_of_numbers_are_shared_whatever_their_size():
    data = np.arange(6.0)
    assert AXIS.gather({"data": data}, SLOTS)["data"] is data
    assert AXIS.split_runs({"data": data})["data"] is data


def test_agreement():
    assert agree(torch.tensor([1.0, torch.nan]), torch.tensor([1.0 + 1e-7, torch.nan]))
    assert not agree(torch.tensor([1.0]), torch.tensor([1.01]))
    assert not agree(torch.tensor([1]), torch.tensor([2]))
    assert not agree(torch.zeros(2), torch.zeros(3))


def test_tensors_in_order():
    a, b = torch.zeros(1), torch.ones(1)
    assert [tensor is expected for tensor, expected in zip(tensors_of({"p": a, "q": (b,)}), (a, b), strict=True)]
    assert map_structure(lambda tensor, event_dim: tensor + 1, [a])[0].item() == 1


@pytest.mark.parametrize(
    ("shape", "dim", "index"),
    [((6, 3, 4), -1, 0), ((6, 6, 4), -1, 0), ((1, 6, 4), -1, 1), ((6, 1, 3, 4), -2, 0), ((3, 4), -1, None)],
)
def test_dimensions_of_an_event_right_of_the_particles(shape, dim, index):
    """Only those of size 1 may be left of the particles, so that others are right of them."""
    axis = ParticleAxis(2, 3, dim)
    assert axis.find(torch.zeros(shape), event_dim=1) == index
    assert axis.split_runs(Rows(torch.zeros(shape), torch.zeros(shape[:-1]), None)).tokens.shape[:2] == (2, 3)
