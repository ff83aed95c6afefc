import pytest
import torch

from pyro_llm.distributions import token_sequence
from pyro_llm.lm import TableLM
from pyro_llm.lm.stopping import terminator

P = -1


@pytest.mark.parametrize(
    ("row", "valid"),
    [
        ([0, 1, 2], True),
        ([0, 1, P], True),
        ([P, P, P], True),
        ([3, P, P], True),  # EOS first
        ([0, 0, 3], True),
        ([3, 0, P], False),  # goes on after EOS
        ([3, 3, P], False),
        ([0, P, 0], False),  # padding inside
        ([P, 0, 0], False),
        ([4, P, P], False),  # no token
        ([-2, P, P], False),
        ([0.5, P, P], False),
    ],
)
def test_check(row, valid):
    constraint = token_sequence(4, eos_token_ids=[3])
    assert constraint.check(torch.tensor(row)).item() is valid
    rows = torch.tensor([[row, [0, 0, 0]]])
    assert constraint.check(rows).tolist() == [[valid, True]]


def test_a_completed_stop_ends_a_row():
    lm = TableLM(lambda tokens: [0.25] * 4, ["a", "b", "ba", "."], eos_token_id=3)
    rows = torch.tensor([[0, 1, P], [1, 0, P], [1, 0, 0], [2, P, P], [2, 0, P], [3, 0, P], [1, 1, 0]])
    constraint = token_sequence(4, terminator=terminator(lm, ("ba",)))
    assert constraint.check(rows).tolist() == [True, True, False, True, False, False, True]


def test_declaration():
    constraint = token_sequence(4)
    assert constraint.is_discrete
    assert constraint.event_dim == 1
    assert repr(constraint) == "token_sequence(vocabulary_size=4)"
    assert constraint.check(torch.zeros(2, 0)).tolist() == [True, True]
