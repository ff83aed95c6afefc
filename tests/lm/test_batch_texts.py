"""Texts of several particles in a run that executes the program once for all of them, and everywhere else."""

import copy
import pickle

import numpy as np
import pytest
import torch

from pyro_llm.errors import BatchedBranchError, PromptError
from pyro_llm.lm import TableLM
from pyro_llm.run_scope import RunScope, run_scope

LM = TableLM(lambda tokens: [0.5, 0.25, 0.25], ["a", "b", "<eos>"], eos_token_id=2)
STATE = LM.prompt("say").append(torch.tensor([[0, 1], [1, -1], [0, -1]]))


@pytest.fixture
def shared_execution():
    with run_scope(RunScope(particles_share_execution=True)):
        yield


@pytest.mark.parametrize(
    "use",
    [
        lambda texts: f"review: {texts}",
        lambda texts: "review: {}".format(texts),  # noqa: UP032
        lambda texts: "review: %s" % texts,  # noqa: UP031
        str,
        lambda texts: str(texts[:2]),
        lambda texts: str(texts.reshape(3, 1)),
        lambda texts: "a" in texts,
        bool,
    ],
)
def test_what_would_be_one_for_all_is_refused(use, shared_execution):
    with pytest.raises(BatchedBranchError, match=r'particles="scalar"(.|\n)*texts\.tolist\(\)'):
        use(STATE.texts)


@pytest.mark.parametrize("use", [str, lambda state: f"review: {state}"])
def test_so_is_a_state_written_out(use, shared_execution):
    with pytest.raises(BatchedBranchError, match="one string of a state"):
        use(STATE)
    assert "first='ab'" in repr(STATE)
    assert f"{LM.prompt('say')}" == repr(LM.prompt("say")), "what particles share already may be shared"


@pytest.mark.parametrize(
    "make", [lambda texts: texts[0], lambda texts: "review: " + texts[0], lambda texts: texts[0] + "!"]
)
def test_one_particles_text_is_no_prompt(make, shared_execution):
    prompt = make(STATE.texts)
    assert isinstance(prompt, str) and prompt in ("ab", "review: ab", "ab!")
    with pytest.raises(PromptError, match=r'text of one particle(.|\n)*particles="scalar"'):
        LM.prompt(prompt)
    with pytest.raises(PromptError, match=r'is a BatchTexts(.|\n)*particles="scalar"'):
        LM.prompt(STATE.texts)


def test_functions_of_rows_work(shared_execution):
    texts = STATE.texts
    assert [f"<{text}>" for text in texts.tolist()] == [f"<{text}>" for text in texts.flat] == ["<ab>", "<b>", "<a>"]
    assert [len(text) for text in texts] == [len(texts[row]) for row in range(3)] == [2, 1, 1]
    assert [texts[row].split("b") for row in range(3)] == [["a", ""], ["", ""], ["a"]]
    equal = texts == "b"
    assert type(equal) is np.ndarray and equal.tolist() == [False, True, False]
    assert torch.from_numpy(equal).any() and True in equal
    assert {"ab": 1}[texts[0]] == 1 and texts[0] == "ab" and f"{texts[0]!s}" == "ab"
    assert set(texts) == {"ab", "a", "b"}
    assert (texts + "!").tolist() == ["ab!", "b!", "a!"]
    assert np.vectorize(len)(texts).tolist() == [2, 1, 1]


def test_a_single_text_is_a_text(shared_execution):
    one = LM.prompt("say").append(torch.tensor([[0, 1]]))
    assert f"{one.texts[0]} {one.texts} {one.texts.item()}" == "ab ['ab'] ab"
    assert LM.prompt(one.texts[0]).prompt == "ab" and f"{one}" == repr(one)


@pytest.mark.parametrize("scope", [None, RunScope()])
def test_elsewhere_it_is_an_ordinary_array(scope):
    with run_scope(RunScope(particles_share_execution=True)):
        guarded = STATE.texts
        row = guarded[0]
    with run_scope(scope):
        assert type(STATE.texts) is np.ndarray
        for texts in (STATE.texts, guarded):
            assert f"{texts}" == str(texts) == "['ab' 'b' 'a']" and "b" in texts
            assert LM.prompt(texts[0]).prompt == "ab"
        assert f"{row}" == "ab" and f"{STATE}" == repr(STATE)


def test_copies_are_ordinary():
    with run_scope(RunScope(particles_share_execution=True)):
        guarded = STATE.texts
        row = guarded[0]
    assert type(pickle.loads(pickle.dumps(guarded))) is np.ndarray
    assert type(pickle.loads(pickle.dumps(row))) is str
    assert copy.copy(guarded).tolist() == ["ab", "b", "a"]
