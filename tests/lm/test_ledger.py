"""What was drawn is not scored a second time."""

import torch

from pyro_llm.lm import PAD, Decoding, Prefix
from pyro_llm.lm.ledger import Ledger

PROMPT = torch.tensor([5, 6])


def prefix(*rows):
    width = max(map(len, rows))
    tokens = torch.tensor([[*row, *[PAD] * (width - len(row))] for row in rows], dtype=torch.long)
    return Prefix(PROMPT, tokens.reshape(len(rows), width), torch.tensor([len(row) for row in rows]))


def test_entries_are_found_by_prefix_continuation_and_decoding():
    ledger, decoding = Ledger(), Decoding(3)
    ledger.enter(prefix([1], [2]), torch.tensor([[7, 8], [7, PAD]]), decoding, torch.tensor([-1.0, -2.0]))
    found, known = ledger.look_up(
        prefix([2], [1], [1], []), torch.tensor([[7, PAD, PAD], [7, 8, PAD], [7, PAD, PAD], [1, 7, 8]]), decoding
    )
    assert found.tolist() == [-2.0, -1.0, 0.0, 0.0]  # the same text cut elsewhere is another continuation
    assert known.tolist() == [True, True, False, False]
    _, known = ledger.look_up(prefix([1]), torch.tensor([[7, 8]]), Decoding(3, temperature=0.5))
    assert not known.any()


def test_the_first_value_stays():
    ledger, decoding = Ledger(), Decoding(3)
    for value in (-1.0, -1.5):
        ledger.enter(prefix([1]), torch.tensor([[7]]), decoding, torch.tensor([value]))
    assert ledger.look_up(prefix([1]), torch.tensor([[7]]), decoding)[0].tolist() == [-1.0]


def test_the_oldest_are_forgotten():
    ledger, decoding = Ledger(most_entries=2), Decoding(3)
    for token in range(3):
        ledger.enter(prefix([1]), torch.tensor([[token]]), decoding, torch.tensor([-1.0]))
    _, known = ledger.look_up(prefix([1], [1], [1]), torch.tensor([[0], [1], [2]]), decoding)
    assert known.tolist() == [False, True, True]
