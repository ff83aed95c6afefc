"""The options of a step, and the law they make of logits."""

import math

import pytest
import torch

from pyro_llm.errors import UnknownStopError
from pyro_llm.lm import Decoding
from pyro_llm.lm.decoding import restrict

LOGITS = torch.tensor([[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64).log()


def test_a_single_stop_string_is_a_tuple_of_one():
    assert Decoding(4, stop="\n\n").stop == ("\n\n",)
    assert Decoding(4, stop=["a", "b"]).stop == ("a", "b")
    assert Decoding(4, stop=None).stop == ()
    assert hash(Decoding(4, stop=["a"])) == hash(Decoding(4, stop="a"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2.0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"temperature": math.inf}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": (3,)}, "stop"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Decoding(**{"max_tokens": 4, **options})


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UnknownStopError, match="empty"):
        Decoding(4, stop=("\n", ""))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]),
        ({"temperature": 0.5}, [[25 / 34, 4 / 34, 4 / 34, 1 / 34], [1 / 30, 4 / 30, 9 / 30, 16 / 30]]),
        ({"top_k": 2}, [[5 / 7, 2 / 7, 0, 0], [0, 0, 3 / 7, 4 / 7]]),  # of the tied tokens the first
        ({"top_k": 1}, [[1, 0, 0, 0], [0, 0, 0, 1]]),
        ({"top_k": 9}, [[0.5, 0.2, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]]),
        ({"top_p": 0.7}, [[5 / 7, 2 / 7, 0, 0], [0, 0, 3 / 7, 4 / 7]]),  # the mass reaches 0.7 exactly
        ({"top_p": 0.71}, [[5 / 9, 2 / 9, 2 / 9, 0], [0, 2 / 9, 3 / 9, 4 / 9]]),
        ({"top_p": 1e-12}, [[1, 0, 0, 0], [0, 0, 0, 1]]),  # at least one token
        # top-k comes first: of {0.4, 0.3} renormalised, the larger reaches 0.55 alone
        ({"top_k": 2, "top_p": 0.55}, [[1, 0, 0, 0], [0, 0, 0, 1]]),
        ({"temperature": 0.5, "top_p": 0.8}, [[25 / 29, 4 / 29, 0, 0], [0, 0, 9 / 25, 16 / 25]]),
    ],
)
def test_the_law_is_tempered_cut_and_renormalised(options, expected):
    law = restrict(LOGITS, Decoding(max_tokens=1, **options)).exp()
    torch.testing.assert_close(law, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    ("given", "computed"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
    ],
)
def test_the_law_is_computed_in_float32_or_better(given, computed):
    law = restrict(torch.randn(3, 50, generator=torch.Generator().manual_seed(0)).to(given), Decoding(1, top_p=0.9))
    assert law.dtype == computed
    torch.testing.assert_close(law.double().exp().sum(-1), torch.ones(3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_tokens_of_probability_zero_stay_so():
    logits = torch.tensor([[0.0, -torch.inf, 1.0]])
    for options in ({"temperature": 0.3}, {"top_k": 2}, {"top_k": 3}, {"top_p": 0.99}):
        assert restrict(logits, Decoding(1, **options))[0, 1] == -torch.inf


def test_a_row_does_not_depend_on_the_others():
    logits = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    decoding = Decoding(1, temperature=0.7, top_k=20, top_p=0.8)
    together = restrict(logits, decoding)
    assert torch.equal(together[4:5], restrict(logits[4:5], decoding))
    assert torch.equal(together.reshape(2, 3, 40), restrict(logits.reshape(2, 3, 40), decoding))
