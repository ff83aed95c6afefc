"""The enumerable language model."""

import math
import pickle
from itertools import pairwise

import pytest
import torch

from pyro_llm.lm import Decoding, LanguageModel, SamplingKey, TableLM
from pyro_llm.run_scope import run_scope


def uniform(tokens):
    return [0.5, 0.25, 0.25]


def test_it_is_a_language_model(table_lm):
    assert isinstance(table_lm, LanguageModel)


@pytest.mark.parametrize("max_tokens", [1, 3, 5])
def test_the_enumerated_sequences_are_all_there_is(table_lm, max_tokens):
    sequences = dict(table_lm.enumerate(max_tokens))
    assert math.isclose(math.fsum(map(math.exp, sequences.values())), 1.0, abs_tol=1e-12)
    for tokens in sequences:
        assert len(tokens) == max_tokens or tokens[-1] == 3
        assert 3 not in tokens[:-1]
        assert not any(pair == (1, 1) for pair in pairwise(tokens))  # probability zero
    tokens = (0, 2, 3)
    if max_tokens >= 3:
        by_hand = sum(float(table_lm.log_probs(tokens[:n])[tokens[n]]) for n in range(3))
        assert math.isclose(sequences[tokens], by_hand)


def test_texts_are_encoded_by_the_longest_token_that_fits():
    lm = TableLM(lambda tokens: [0.25] * 4, ["a", "ab", "b", "<eos>"], eos_token_id=3)
    assert lm.encode("aabb") == [0, 1, 2]
    assert lm.decode([0, 1, 2, 3]) == "aabb"
    with pytest.raises(ValueError, match=r"fits at 'c' in 'abc'"):
        lm.encode("abc")
    with pytest.raises(ValueError, match="fits"):
        lm.encode("<eos>")


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ([0.5, 0.5], r"shape \(2,\), not \(3,\)"),
        ([0.6, 0.6, -0.2], "non-negative"),
        ([0.5, math.nan, 0.5], "non-negative"),
        ([0.5, 0.25, 0.25 + 1e-6], "sum to"),
    ],
)
def test_what_is_no_distribution_is_refused(probabilities, message):
    lm = TableLM(lambda tokens: probabilities, ["a", "b", "c"], eos_token_id=None, name="toy")
    with pytest.raises(ValueError, match=r"'toy' after \(\).*" + message):
        lm.session().next_log_probs(lm.prompt().expand((1,)).prefix(), Decoding(1))


def test_nearly_normalised_probabilities_are_normalised():
    lm = TableLM(lambda tokens: [0.5, 0.5 + 5e-10], ["a", "b"], eos_token_id=None)
    assert math.isclose(float(lm.log_probs(()).exp().sum()), 1.0, abs_tol=1e-15)


@pytest.mark.parametrize("vocabulary", [[], ["a", "a"]])
def test_vocabularies_must_tell_tokens_apart(vocabulary):
    with pytest.raises(ValueError, match="distinct"):
        TableLM(uniform, vocabulary, eos_token_id=None)


def test_eos_must_be_in_the_vocabulary():
    with pytest.raises(ValueError, match="eos_token_id 3"):
        TableLM(uniform, ["a", "b", "c"], eos_token_id=3)


def test_the_table_is_asked_only_for_what_is_needed():
    asked = []

    def conditional(tokens):
        asked.append(tokens)
        if len(tokens) >= 2:
            raise IndexError("the table has two rows")
        return [0.5, 0.5]

    lm = TableLM(conditional, ["a", "b"], eos_token_id=None)
    state = lm.prompt().expand((200,))
    state.session.sample(state.prefix(), Decoding(2), SamplingKey(0, torch.arange(200)))
    assert sorted(asked) == [(), (0,), (1,)]


def test_pickling_keeps_the_law():
    lm = TableLM(uniform, ["a", "b", "<eos>"], eos_token_id=2)
    state = lm.prompt().expand((50,))
    key = SamplingKey(4, torch.arange(50))
    drawn = state.session.sample(state.prefix(), Decoding(5), key)
    again = pickle.loads(pickle.dumps(lm)).prompt().expand((50,))
    assert torch.equal(again.session.sample(again.prefix(), Decoding(5), key).tokens, drawn.tokens)
    assert repr(lm) == "TableLM(vocabulary=['a', 'b', '<eos>'], eos_token_id=2, name='table')"


def test_cost_counts_each_prefix_once_and_each_written_token():
    lm = TableLM(lambda tokens: [1.0, 0.0], ["a", "<eos>"], eos_token_id=1)
    with run_scope() as scope:
        state = lm.prompt().expand((5,))
        for step in range(2):
            drawn = state.session.sample(state.prefix(), Decoding(3), SamplingKey(step, torch.arange(5)))
            state = state.append(drawn.tokens)
    assert scope.cost.lm_tokens_sampled == 30
    assert scope.cost.lm_tokens_forwarded == 30
    assert scope.cost.lm_calls == 1 + 2 * 3  # the empty prefix, then one a token
