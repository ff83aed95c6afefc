"""Texts by step: what a lineage wrote, in pieces."""

import numpy as np
import torch

from pyro_llm.ops.step_texts import StepTexts


def test_a_character_over_two_steps_is_written_where_it_becomes_whole():
    tokens = [torch.tensor([[[0xC3]]]), torch.tensor([[[0xA9]]])]
    texts = StepTexts(tokens, np.array([[[0], [0]]]), lambda ids: bytes(ids).decode("utf-8", "replace"))
    assert texts.values.tolist() == [[["�"], ["é"]]]


def test_what_a_tokenizer_drops_at_the_beginning_is_kept_inside():
    tokens = [torch.tensor([[[0], [1]]]), torch.tensor([[[1], [-1]]])]
    texts = StepTexts(tokens, np.array([[[0, 0], [0, 1]]]), lambda ids: "".join([" a", " b"][i] for i in ids).lstrip())
    assert texts.values.tolist() == [[["a", "b"], [" b", ""]]]


def test_texts_that_were_read_stay_as_they_are():
    kept = np.array([[["a"]]], dtype=object)
    assert StepTexts(kept=kept).values is kept
    assert np.asarray(StepTexts(kept=kept)).tolist() == [[["a"]]]
