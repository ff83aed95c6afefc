"""Constraints as automata over tokens, held against Python's own regular expressions and JSON."""

import itertools
import json
import re
import sys

import pytest
import torch

from pyro_llm.errors import ConstraintError, MissingExtraError
from pyro_llm.lm import PAD, TableLM
from pyro_llm.lm.constraint import Constraint

VOCABULARY = ["a", "b", "ab", "12", "é", ".", "1", "<eos>"]
EOS = 7


@pytest.fixture
def lm():
    return TableLM(lambda tokens: [1 / 8] * 8, VOCABULARY, eos_token_id=EOS)


@pytest.fixture
def outlines():
    return pytest.importorskip("outlines_core", exc_type=ImportError)


def accepted(automaton, lm, length):
    """The rows of so many tokens before EOS that the automaton accepts, all of them walked in one batch."""
    rows = torch.tensor([*itertools.product(range(EOS), repeat=length)]).reshape(EOS**length, length)
    states = torch.zeros(len(rows), dtype=torch.long)
    for column in rows.unbind(-1):
        states = automaton.advance(states, column)
    complete = automaton.distance[states] == 0
    return {tuple(row) for row in rows[complete].tolist()}


PATTERNS = ["a|ab", "a*?", "", "(ab)*é?", "[^a]b|a1.", r"1\.12", "(a|aab|b)+", "a{2,3}b?", r"\.?(12|1)*", "a??b"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_accepts_what_python_matches(lm, outlines, pattern):
    automaton = Constraint(pattern).automaton(lm)
    for length in range(4):
        rows = itertools.product(range(EOS), repeat=length)
        assert accepted(automaton, lm, length) == {row for row in rows if re.fullmatch(pattern, lm.decode(row))}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_allows_what_can_be_completed_in_time(lm, outlines, pattern):
    """A token is allowed if and only if some continuation of few enough tokens matches and ends."""
    automaton = Constraint(pattern).automaton(lm)
    complete = {row for length in range(4) for row in accepted(automaton, lm, length)}
    for prefix in [(), (0,), (1,), (0, 1), (2,), (3,)]:
        state = torch.tensor(0)
        for token in prefix:
            state = automaton.advance(state, torch.tensor(token))
        for total in range(len(prefix) + 1, 5):
            mask = automaton.allowed(state, total - len(prefix)).mask(torch.tensor([0]))[0]
            expected = [
                any(row[: len(prefix) + 1] == (*prefix, token) and len(row) < total for row in complete)
                for token in range(EOS)
            ]
            assert mask[:EOS].tolist() == expected
            assert mask[EOS].item() == (prefix in complete)


def test_a_batch_of_states_and_what_does_not_advance(lm, outlines):
    automaton = Constraint("(ab)*").automaton(lm)
    states = automaton.advance(torch.zeros(2, 3, dtype=torch.long), torch.tensor([[0, 2, 1], [EOS, PAD, 3]]))
    mask = automaton.allowed(states, 5).mask(torch.arange(6))
    assert mask[0].nonzero().flatten().tolist() == [1]
    assert not mask[2].any()
    assert not mask[5].any()
    assert states[1, :2].tolist() == [0, 0]
    assert torch.equal(mask[1], mask[3])
    assert mask[1].nonzero().flatten().tolist() == [0, 2, EOS]


def test_json_schema(outlines):
    characters = sorted({*'{}",: abn0123456789-'})
    lm = TableLM(lambda tokens: [1 / 21] * 21, [*characters, "<eos>"], eos_token_id=len(characters))
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "b": {"enum": ["a", "ab"]}}}
    schema["required"] = ["n", "b"]
    automaton = Constraint.json_schema(schema).automaton(lm)
    assert Constraint.json_schema(json.dumps(schema)) == Constraint.json_schema(schema)
    for text, valid in [
        ('{"n":-12,"b":"ab"}', True),
        ('{"n": 1, "b": "a"}', True),
        ('{"n":01,"b":"a"}', False),
        ('{"n":1}', False),
        ('{"n":1,"b":"b"}', False),
    ]:
        state = torch.tensor(0)
        for token in lm.encode(text):
            state = automaton.advance(state, torch.tensor(token))
        assert (automaton.distance[state] == 0).item() == valid, text


@pytest.mark.parametrize("pattern", ["(", "b{2", "xyz", r"(a)\1", "^a"])
def test_what_cannot_be_a_constraint(lm, outlines, pattern):
    with pytest.raises(ConstraintError, match=r"no regular expression that can|No text that the vocabulary"):
        Constraint(pattern).automaton(lm)


def test_other_bad_input(lm, outlines):
    with pytest.raises(ConstraintError, match="a regular expression, not 3"):
        Constraint(3)
    with pytest.raises(ConstraintError, match="JSON schema"):
        Constraint.json_schema("{")
    endless = TableLM(lambda tokens: [1.0], ["a"], eos_token_id=None)
    with pytest.raises(ConstraintError, match="no end-of-sequence token"):
        Constraint("a").automaton(endless)


def test_the_error_names_the_extra(lm, monkeypatch):
    monkeypatch.setitem(sys.modules, "outlines_core", None)
    with pytest.raises(MissingExtraError, match=r"pyro-llm\[constraints\]"):
        Constraint("a").automaton(lm)
