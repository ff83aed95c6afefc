"""The automaton that ends steps."""

import random
import time

import pytest
import torch

from pyro_llm.errors import UnknownStopError
from pyro_llm.lm import TableLM
from pyro_llm.lm.stopping import _compile, terminator


def language_model(vocabulary, eos_token_id=None):
    return TableLM(lambda tokens: [1 / len(vocabulary)] * len(vocabulary), vocabulary, eos_token_id)


def ends_at(lm, stop, tokens):
    """The index of the token that ends a row, or None."""
    ending = terminator(lm, stop)
    ended = ending.ended(ending.states(torch.tensor([tokens])))[0].tolist()
    assert ended == sorted(ended), "ended states must be absorbing"
    return ended.index(True) if True in ended else None


def test_a_stop_string_is_found_within_across_and_inside_tokens():
    lm = language_model(["a", "\n", "\n\n", "a\nb", "x\n", "\ny", "END", "<eos>"], eos_token_id=7)
    assert ends_at(lm, ("\n\n",), [0, 2]) == 1  # within
    assert ends_at(lm, ("\n\n",), [0, 1, 1]) == 2  # across
    assert ends_at(lm, ("\n\n",), [4, 5, 0]) == 1  # ends inside a token
    assert ends_at(lm, ("\n\n",), [1, 0, 1]) is None
    assert ends_at(lm, ("\n\n",), [3, 3, 1]) is None
    assert ends_at(lm, ("aEN",), [0, 6]) == 1


def test_failed_beginnings_are_not_lost():
    lm = language_model(["a", "b", "c"])
    assert ends_at(lm, ("aab",), [0, 0, 0, 1]) == 3
    assert ends_at(lm, ("abab", "bc"), [0, 1, 0, 1]) == 3
    assert ends_at(lm, ("abab", "bc"), [0, 1, 2]) == 2  # a string that ends another's beginning


def test_of_several_stop_strings_the_first_to_complete_counts():
    lm = language_model(["a", "b", "c"])
    assert ends_at(lm, ("abc", "b"), [0, 1, 2]) == 1
    assert ends_at(lm, ("cc", "abc"), [0, 1, 2, 2]) == 2


def test_eos_ends_a_row_and_is_told_apart_from_stop_strings():
    lm = language_model(["a", "b", "<eos>"], eos_token_id=2)
    ending = terminator(lm, ("ab",))
    states = ending.states(torch.tensor([[0, 2, -1], [0, 1, -1], [1, 1, 0]]))
    assert states[:, -1].tolist()[:2] == [ending.by_eos, ending.by_stop]
    assert ending.ended(states).tolist() == [[False, True, True], [False, True, True], [False, False, False]]


def test_each_step_starts_afresh():
    lm = language_model(["a", "b"])
    ending = terminator(lm, ("ab",))
    first = ending.advance(ending.begin(1), torch.tensor([0]))
    assert not ending.ended(ending.advance(ending.begin(1), torch.tensor([1])))
    assert ending.ended(ending.advance(first, torch.tensor([1])))


@pytest.mark.parametrize("seed", range(5))
def test_the_automaton_agrees_with_searching_the_text(seed):
    rng = random.Random(seed)
    vocabulary = sorted({"".join(rng.choices("abcé", k=rng.randint(1, 4))) for _ in range(30)} | set("abcé"))
    lm = language_model(vocabulary)
    stop = tuple({"".join(rng.choices("abcé", k=rng.randint(1, 4))) for _ in range(rng.randint(1, 4))})
    for _ in range(200):
        tokens = rng.choices(range(len(vocabulary)), k=8)
        texts = ["".join(vocabulary[token] for token in tokens[: end + 1]) for end in range(8)]
        expected = next((end for end, text in enumerate(texts) if any(string in text for string in stop)), None)
        assert ends_at(lm, stop, tokens) == expected


def test_a_stop_string_that_the_vocabulary_cannot_spell_is_refused():
    lm = language_model(["a", "b", "cd"])
    with pytest.raises(UnknownStopError, match="cannot produce the stop string 'é'"):
        terminator(lm, ("a", "é"))
    assert terminator(lm, ("c",)) is terminator(lm, ("c",))  # a part of a token will do, and is compiled once
    with pytest.raises(UnknownStopError, match="cca"):
        terminator(lm, ("cca",))


def test_a_stop_string_hidden_by_a_shorter_one_is_no_error():
    lm = language_model(["a", "b"])
    assert ends_at(lm, ("a", "ab"), [1, 0]) == 1


def test_no_stop_string_leaves_only_eos():
    lm = language_model(["a", "<eos>"], eos_token_id=1)
    assert ends_at(lm, (), [0, 0, 1]) == 2
    assert ends_at(language_model(["a", "b"]), (), [0, 1, 0]) is None


def test_a_vocabulary_of_a_quarter_million_compiles_in_seconds():
    rng = random.Random(0)
    tokens = [bytes(rng.choices(b"abcdefghij \n", k=rng.randint(1, 9))) for _ in range(256_000)] + [b" " * 128]
    start = time.perf_counter()
    table = _compile(tokens, ("\n\n", "abc", "hij a b"), (0,), "large")
    assert time.perf_counter() - start < 8  # half a second on one free core
    assert table.shape[1] == len(tokens)
