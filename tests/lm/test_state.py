"""The immutable state of texts being written."""

import pickle

import pytest
import torch

from pyro_llm.errors import OptionError, PromptError
from pyro_llm.lm import PAD, SamplingKey, TableLM, TextState
from pyro_llm.lm.decoding import Decoding
from pyro_llm.run_scope import run_scope

A, B, EOS = 0, 1, 2


def half(tokens):
    return [0.5, 0.25, 0.25]


@pytest.fixture
def lm():
    return TableLM(half, ["a", "b", "<eos>"], eos_token_id=EOS)


@pytest.fixture
def ragged(lm):
    return lm.prompt("say").append(torch.tensor([[A, B, A], [B, PAD, PAD], [A, EOS, PAD]]))


def test_a_text_begins_with_the_prompt_only(lm):
    state = lm.prompt("say")
    assert (state.prompt, state.batch_shape, state.tokens.shape) == ("say", torch.Size([]), torch.Size([0]))
    assert not state.finished
    assert state.texts.shape == ()
    assert state.texts.item() == ""
    assert repr(state) == "TextState(prompt='say', finished=0/1, first='')"


def test_steps_of_unequal_length_leave_no_holes(ragged):
    state = ragged.append(torch.tensor([[B, PAD], [A, B], [PAD, PAD]]))
    assert state.tokens.tolist() == [[A, B, A, B], [B, A, B, PAD], [A, EOS, PAD, PAD]]
    assert state.lengths.tolist() == [4, 3, 2]
    assert state.finished.tolist() == [False, False, True]
    assert state.texts.tolist() == ["abab", "bab", "a"]
    assert ragged.texts.tolist() == ["aba", "b", "a"], "states are immutable"


def test_padding_inside_a_step_is_closed_up(lm):
    assert lm.prompt().append(torch.tensor([[PAD, A, PAD, B]])).tokens.tolist() == [[A, B]]


def test_single_tokens_append(ragged):
    assert ragged.append_token(torch.tensor([B, EOS, PAD])).texts.tolist() == ["abab", "b", "a"]


def test_batches_broadcast_on_the_left(lm):
    state = lm.prompt().append(torch.tensor([[A], [B]]))
    wide = state.append(torch.tensor([[[A, PAD]], [[B, EOS]], [[PAD, PAD]]]))
    assert wide.batch_shape == (3, 2)
    assert wide.texts.tolist() == [["aa", "ba"], ["ab", "bb"], ["a", "b"]]
    assert wide.finished.tolist() == [[False, False], [True, True], [False, False]]
    assert state.expand((4, 2)).texts.shape == (4, 2)


def test_finishing_by_decree(ragged):
    state = ragged.finish(torch.tensor([True, False, False]))
    assert state.finished.tolist() == [True, False, True]
    assert state.append(torch.tensor([A])).finished.tolist() == [True, False, True]


def test_tensors_can_be_gathered_and_reshaped_from_outside(ragged):
    ancestors = torch.tensor([2, 2, 0])
    gathered = ragged.map_tensors(lambda tensor, event_dim: tensor[ancestors])
    assert gathered.texts.tolist() == ["a", "a", "aba"]
    assert gathered.finished.tolist() == [True, True, False]
    shaped = gathered.map_tensors(lambda tensor, event_dim: tensor.reshape(3, 1, *tensor.shape[1:]))
    assert shaped.batch_shape == (3, 1)


def test_prefixes_are_flattened_rows(ragged):
    prefix = ragged.expand((2, 3)).prefix()
    assert prefix.tokens.shape == (6, 3)
    assert prefix.lengths.tolist() == [3, 1, 2, 3, 1, 2]
    chosen = ragged.prefix(torch.tensor([2, 0]))
    assert chosen.tokens.tolist() == [[A, EOS, PAD], [A, B, A]]
    assert len({*prefix.keys()}) == 3


class TestJudgements:
    """A reward judges a text once; other rewards judge it too."""

    def test_rows_that_do_not_advance_stay_judged(self, ragged):
        assert not ragged.judged("prm").any()
        ragged.record_judgement("prm")
        assert not ragged.judged("prm").any(), "the record is for the states that follow"
        later = ragged.append(torch.tensor([[A], [PAD], [PAD]]))
        assert later.judged("prm").tolist() == [False, True, True]
        assert not later.judged("another").any()

    def test_an_advance_after_a_rest_is_judged_again(self, ragged):
        ragged.record_judgement("prm")
        rested = ragged.append(torch.tensor([[PAD], [PAD], [PAD]]))
        rested.record_judgement("prm")
        assert rested.append(torch.tensor([[PAD], [A], [PAD]])).judged("prm").tolist() == [True, False, True]

    def test_judgements_travel_with_rows(self, ragged):
        ragged.record_judgement("prm")
        later = ragged.append(torch.tensor([[A], [PAD], [PAD]]))
        assert later.map_tensors(lambda tensor, _: tensor[[1, 0]]).judged("prm").tolist() == [True, False]
        assert later.expand((2, 3)).judged("prm").tolist() == [[False, True, True]] * 2

    def test_a_record_made_before_rows_are_gathered_counts_after(self, ragged):
        ragged.record_judgement("prm")
        gathered = ragged.map_tensors(lambda tensor, _: tensor[[0, 0, 1]])
        assert gathered.append(torch.tensor([[A], [PAD], [PAD]])).judged("prm").tolist() == [False, True, True]

    def test_finishing_does_not_clear_the_record(self, ragged):
        ragged.record_judgement("prm")
        done = ragged.finish(torch.ones(3, dtype=torch.bool))
        assert done.judged("prm").all()
        assert done.append(torch.tensor([[PAD], [PAD], [PAD]])).judged("prm").all()

    def test_what_another_run_judged_is_its_own_affair(self, ragged):
        with run_scope():
            ragged.record_judgement("prm")
            later = ragged.append(torch.tensor([[A], [PAD], [PAD]]))
            assert later.judged("prm").tolist() == [False, True, True]
        assert not later.judged("prm").any()
        with run_scope():
            assert not later.judged("prm").any()


def test_a_lineage_shares_its_session_and_a_run_has_its_own(lm):
    state = lm.prompt()
    assert state.expand((3,)).append(torch.tensor([A])).session is state.session
    assert state.finish(torch.tensor(True)).session is state.session
    assert lm.prompt().session is not state.session
    with run_scope():
        of_run = state.session
        assert state.append(torch.tensor([A])).session is of_run
        assert lm.prompt().session is of_run
    assert state.session is not of_run
    with run_scope():
        assert state.session is not of_run


def test_states_pickle_without_their_sessions_and_judgements(ragged):
    ragged.record_judgement(lambda state: None)  # which cannot be pickled
    drawn = ragged.session.sample(ragged.prefix(), Decoding(2), SamplingKey(0, torch.arange(3)))
    copy = pickle.loads(pickle.dumps(ragged))
    assert isinstance(copy, TextState)
    assert torch.equal(copy.tokens, ragged.tokens)
    assert copy.texts.tolist() == ragged.texts.tolist()
    again = copy.session.sample(copy.prefix(), Decoding(2), SamplingKey(0, torch.arange(3)))
    assert torch.equal(again.tokens, drawn.tokens)


def test_states_of_one_prompt_stack(lm):
    short, long = lm.prompt().append(torch.tensor([[A]])), lm.prompt().append(torch.tensor([[B, A]]))
    short.record_judgement("prm")
    stacked = TextState.stack([short, long])
    assert stacked.batch_shape == (2, 1)
    assert stacked.texts.tolist() == [["a"], ["ba"]]
    assert stacked.append(torch.tensor([[[PAD]], [[PAD]]])).judged("prm").tolist() == [[True], [False]]


def test_texts_of_different_prompts_or_models_are_not_stacked(lm):
    with pytest.raises(ValueError, match="different language models or prompts"):
        TextState.stack([lm.prompt("one"), lm.prompt("another")])


@pytest.mark.parametrize("value", [torch.tensor([2, 3]), torch.tensor([[0.5]]), torch.tensor([True]), torch.ones(0)])
def test_a_prompt_with_a_tensor_written_out_is_refused(value):
    lm = TableLM(lambda tokens: [0.5, 0.5], ["a", "."], eos_token_id=1)
    with pytest.raises(PromptError, match="tensor written out"):
        lm.prompt(f"Mia buys {value} more.")
    for asked in (
        "What is torch.tensor([1, 2]).sum()?",
        "A tensor (of rank 2)?",
        "tensor(a)",
        f"{value.sum()}",
    ):
        assert lm.prompt(asked).prompt == asked


def test_what_is_no_step_and_no_prompt(lm):
    with pytest.raises(OptionError, match=r"append\('Think'\): give token ids"):
        lm.prompt("x").append("Think")
    with pytest.raises(PromptError, match="run_each"):
        lm.prompt(["a", "b"])
    with pytest.raises(PromptError, match=r"NoneType: give a string, one for all texts\.$"):
        lm.prompt(None)
