"""Texts that are being written on: in memory once, found all the same, and what is left behind is kept for a step."""

import pytest
import torch

from pyro_llm.lm import Decoding, HFLanguageModel, SamplingKey
from pyro_llm.run_scope import run_scope

PROMPT = "tom has 4 pens"  # 14 tokens
ROWS = 6


@pytest.fixture
def written(llama_model, tokenizer):
    """Six texts of five tokens each, in a session that has just drawn them."""
    llama_model.generation_config.eos_token_id = tokenizer.eos_token = None
    lm = HFLanguageModel(llama_model, tokenizer, name="endless")
    begin = lm.prompt(PROMPT).expand((ROWS,))
    session = lm.session()
    drawn = session.sample(begin.prefix(), Decoding(5), SamplingKey(0, torch.arange(ROWS)))
    state = begin.append(drawn.tokens)
    assert len(set(map(tuple, drawn.tokens.tolist()))) == ROWS
    return session, state


def tokens_read(session, prefix):
    with run_scope() as scope:
        session.next_log_probs(prefix, Decoding(1))
    return scope.cost.lm_tokens_forwarded


def take(state, *rows):
    return state.map_tensors(lambda tensor, _: tensor[list(rows)])


def test_rows_that_are_written_on_are_in_memory_once(written):
    session, state = written
    cache, held = session._decoder._cache, []
    prompt = session.kv_bytes * 14 // (14 + 5 * ROWS)  # the slabs of a step have room for no more than it
    hook = state.lm.model.register_forward_hook(lambda *_: held.append(session.kv_bytes))
    session.sample(state.prefix(), Decoding(4), SamplingKey(1, torch.arange(ROWS)))
    hook.remove()
    assert held == [prompt] * 4, "the prompt; all texts belong to the rows that are written"
    assert session.kv_bytes == prompt * (14 + 9 * ROWS) // 14
    assert not any(batch.lent for batch in cache.batches())
    assert tokens_read(session, state.prefix()) == 0, "they are beginnings of what has been written"


def test_texts_are_found_while_others_write_on_them(written, fresh_log_probs):
    session, state = written
    decoder, prefix, step = session._decoder, state.prefix(), object()
    with torch.no_grad():
        branches = decoder.fork(decoder.starts(prefix), room=4, steps=[step] * ROWS)
        branches.advance(torch.arange(5, 5 + ROWS), torch.ones(ROWS, dtype=torch.bool))
        assert tokens_read(session, prefix) == 0
        branches.keep_only([4, 1, 5], room=4)  # as after rows 0, 2 and 3 have been kept, or will be read anew
        staying = take(state, 4, 1, 5)
        assert tokens_read(session, staying.prefix()) == 0
        again = decoder.fork(decoder.starts(staying.prefix()), room=4, steps=[object()] * 3)
        for rows in (branches, again):
            rows.advance(torch.tensor([7, 8, 9]), torch.ones(3, dtype=torch.bool))
    prompt = state.prompt_tokens.tolist()
    for row, (text, token) in enumerate(zip(staying.tokens.tolist(), (7, 8, 9), strict=True)):
        first = (9, 6, 10)[row]
        for logits, more in ((branches.logits, [first, token]), (again.logits, [token])):
            right = fresh_log_probs(state.lm, prompt + text + more)[-1]
            torch.testing.assert_close(logits[row].log_softmax(-1), right, rtol=0, atol=1e-4)


def test_what_is_left_behind_is_kept_until_the_next_step_is_written_on(written):
    session, state = written
    survivors = take(state, 0, 0, 2, 2)
    drawn = session.sample(survivors.prefix(), Decoding(3), SamplingKey(1, torch.arange(4)))
    behind = take(state, 1, 3, 4, 5)
    assert tokens_read(session, behind.prefix()) == 0
    later = survivors.append(drawn.tokens)
    session.sample(later.prefix(), Decoding(3), SamplingKey(2, torch.arange(4)))
    assert tokens_read(session, later.prefix()) == 0
    assert tokens_read(session, behind.prefix()) == 4 * 5


def test_a_failure_to_fork_leaves_nothing_half_lent(written, monkeypatch):
    session, state = written

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pyro_llm.lm.cached_decoder.take", fail)
        with pytest.raises(KeyboardInterrupt):
            session.sample(state.prefix(), Decoding(4), SamplingKey(1, torch.arange(ROWS)))
    assert tokens_read(session, state.prefix()) == 5 * ROWS, "forgotten, and read again"
