"""Sampling and scoring token by token, checked against the enumerable language model."""

import copy
import math
from collections import Counter, defaultdict

import pytest
import torch
from scipy import stats

from pyro_llm.errors import ContextLengthError, LogitsError
from pyro_llm.lm import PAD, Decoding, HFLanguageModel, SamplingKey, TableLM
from pyro_llm.lm.decoding import restrict

FALSE_ALARM = 1e-4
DECODINGS = [
    Decoding(3),
    Decoding(4, stop="\n"),
    Decoding(4, stop=("ab", "\na")),
    Decoding(3, temperature=0.6),
    Decoding(3, temperature=1.7, top_p=0.8),
    Decoding(4, top_k=2, stop="a\n"),
]


def sample(state, decoding, seed, slots=None):
    rows = state.finished.numel()
    return state.session.sample(
        state.prefix(), decoding, SamplingKey(seed, torch.arange(rows) if slots is None else slots)
    )


def exact_law(lm, decoding, prefix=()):
    """Every continuation that generation may give, with its probability, by recursion over the table."""
    law = {}

    def extend(tokens, log_prob):
        text = lm.decode(tokens)
        if len(tokens) == decoding.max_tokens or tokens[-1:] == (3,) or any(stop in text for stop in decoding.stop):
            law[tokens] = math.exp(log_prob)
            return
        for token, term in enumerate(restrict(lm.log_probs(prefix + tokens), decoding).tolist()):
            if term > -math.inf:
                extend((*tokens, token), log_prob + term)

    extend((), 0.0)
    return law


@pytest.mark.parametrize("decoding", DECODINGS, ids=repr)
@pytest.mark.parametrize("prefix", [(), (2, 0)])
def test_frequencies_are_the_stated_probabilities(table_lm, decoding, prefix):
    """Null: 20,000 draws follow the enumerated law; false-alarm rate 1e-4. Rare outcomes are pooled."""
    state = table_lm.prompt().expand((20_000,)).append(torch.tensor(prefix, dtype=torch.long))
    drawn = sample(state, decoding, seed=1)
    law = exact_law(table_lm, decoding, prefix)
    assert math.isclose(sum(law.values()), 1.0, abs_tol=1e-9)
    rows = [tuple(token for token in row if token != PAD) for row in drawn.tokens.tolist()]
    assert set(rows) <= set(law)
    for row, log_prob in zip(rows[:500], drawn.log_prob[:500].tolist(), strict=True):
        assert math.isclose(log_prob, math.log(law[row]), abs_tol=1e-9)
    counts, observed, expected = Counter(rows), defaultdict(int), defaultdict(float)
    for row, probability in law.items():
        cell = row if probability * 20_000 >= 10 else "rare"
        observed[cell] += counts[row]
        expected[cell] += probability * 20_000
    assert stats.chisquare(list(observed.values()), [expected[cell] for cell in observed]).pvalue > FALSE_ALARM


@pytest.mark.parametrize("decoding", DECODINGS, ids=repr)
def test_scores_are_the_log_probabilities_of_the_draws(table_lm, decoding):
    state = table_lm.prompt().expand((300,))
    drawn = sample(state, decoding, seed=2)
    scored = table_lm.session().score(state.prefix(), drawn.tokens, decoding)
    assert scored.dtype == torch.float64
    torch.testing.assert_close(scored, drawn.log_prob, rtol=0, atol=1e-12)


def test_a_score_is_the_probability_that_generation_begins_so(table_lm):
    decoding = Decoding(4, stop="\n\n")
    law = exact_law(table_lm, decoding)
    beginnings = [(), (0,), (0, 1), (2, 0, 0), (1, 0, 2, 3), (2, 2)]
    continuation = torch.tensor([[*row, *[PAD] * (4 - len(row))] for row in beginnings])
    scored = table_lm.session().score(table_lm.prompt().expand((6,)).prefix(), continuation, decoding)
    for row, score in zip(beginnings, scored.tolist(), strict=True):
        mass = sum(probability for tokens, probability in law.items() if tokens[: len(row)] == row)
        assert math.isclose(score, math.log(mass), abs_tol=1e-9)


@pytest.mark.parametrize(
    "row",
    [
        [3, 0, PAD, PAD, PAD],  # after EOS
        [2, 1, 0, PAD, PAD],  # after a stop string, "\nb"
        [0, 0, 0, 0, 0],  # beyond max_tokens
        [0, PAD, 0, PAD, PAD],  # padding before a token
        [0, 4, PAD, PAD, PAD],  # no token of the vocabulary
        [0, -2, PAD, PAD, PAD],
        [1, 1, PAD, PAD, PAD],  # probability zero
        [PAD, PAD, PAD, PAD, 0],
    ],
)
def test_what_generation_cannot_begin_with_scores_minus_infinity(table_lm, row):
    prefix = table_lm.prompt().expand((2,)).prefix()
    scored = table_lm.session().score(prefix, torch.tensor([row, [0, PAD, PAD, PAD, PAD]]), Decoding(4, stop="\nb"))
    assert scored[0] == -math.inf
    assert math.isfinite(scored[1])


def test_padding_only_scores_zero(table_lm):
    prefix = table_lm.prompt().expand((3,)).prefix()
    assert table_lm.session().score(prefix, torch.full((3, 4), PAD), Decoding(4)).tolist() == [0.0] * 3
    assert table_lm.session().score(prefix, torch.empty(3, 0, dtype=torch.long), Decoding(4)).tolist() == [0.0] * 3


def test_draws_do_not_depend_on_how_rows_are_batched(table_lm):
    decoding = Decoding(5, temperature=0.9)
    state = table_lm.prompt().expand((40,)).append(sample(table_lm.prompt().expand((40,)), Decoding(2), 0).tokens)
    together = sample(state, decoding, seed=3)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    permuted = table_lm.session().sample(state.prefix(order), decoding, SamplingKey(3, order))
    assert torch.equal(permuted.tokens, together.tokens[order])
    for row in (0, 17, 39):
        alone = table_lm.session().sample(
            state.prefix(torch.tensor([row])), decoding, SamplingKey(3, torch.tensor([row]))
        )
        assert torch.equal(alone.tokens[0], together.tokens[row])
        assert alone.log_prob[0] == together.log_prob[row]


def test_seeds_and_slots_make_other_draws(table_lm):
    state = table_lm.prompt().expand((40,))
    first = sample(state, Decoding(5), seed=3).tokens
    assert not torch.equal(first, sample(state, Decoding(5), seed=4).tokens)
    assert not torch.equal(first, sample(state, Decoding(5), seed=3, slots=torch.arange(40) + 40).tokens)
    assert len({tuple(row) for row in first.tolist()}) > 10


def test_continuations_are_as_wide_as_max_tokens(table_lm):
    drawn = sample(table_lm.prompt().expand((4,)), Decoding(7), seed=0)
    assert drawn.tokens.shape == (4, 7)
    assert drawn.tokens.dtype == torch.int64
    nobody = table_lm.session().sample(
        table_lm.prompt().expand((0,)).prefix(), Decoding(7), SamplingKey(0, torch.arange(0))
    )
    assert nobody.tokens.shape == (0, 7)
    assert nobody.log_prob.shape == (0,)


def test_next_log_probs_are_the_restricted_law(table_lm):
    state = table_lm.prompt().expand((2,)).append(torch.tensor([[0, 1], [2, PAD]]))
    decoding = Decoding(1, top_k=2)
    law = table_lm.session().next_log_probs(state.prefix(), decoding)
    for row, tokens in enumerate([(0, 1), (2,)]):
        assert torch.equal(law[row], restrict(table_lm.log_probs(tokens), decoding))


def test_what_does_not_fit_the_context_is_refused_with_numbers():
    lm = TableLM(lambda tokens: [0.5, 0.5], ["a", "b"], eos_token_id=None, name="short")
    lm.context_length = 6
    state = lm.prompt().expand((2,)).append(torch.tensor([[0, 1, 1], [0, PAD, PAD]]))
    assert sample(state, Decoding(3), seed=0).tokens.shape == (2, 3)
    with pytest.raises(ContextLengthError, match=r"'short' has a context of 6 tokens.*need 7.*3 written.*4 more"):
        sample(state, Decoding(4), seed=0)
    with pytest.raises(ContextLengthError, match="need 7"):
        state.session.score(state.prefix(), torch.zeros(2, 4, dtype=torch.long), Decoding(4))
    full = state.append(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ContextLengthError, match="need 7"):
        full.session.next_log_probs(full.prefix(), Decoding(1))


def test_looking_for_the_end_less_often_changes_nothing(table_lm, llama_lm, monkeypatch):
    """As on accelerators, where the host looks every eighth token only: rows that have ended wait for the others."""
    for lm in (table_lm, llama_lm):
        decoding = Decoding(12, stop="a")
        often = sample(lm.prompt("7 pens").expand((6,)), decoding, seed=1)
        with monkeypatch.context() as patch:
            patch.setattr("pyro_llm.lm.sampling_pool._looks_always", lambda device: False)
            state = lm.prompt("7 pens").expand((6,))
            seldom = sample(state, decoding, seed=1)
        assert torch.equal(seldom.tokens, often.tokens)
        torch.testing.assert_close(seldom.log_prob, often.log_prob)
        after = state.append(seldom.tokens)
        live = after.prefix((~after.finished).nonzero().squeeze(-1))
        law = after.session.next_log_probs(live, Decoding(1))
        torch.testing.assert_close(law, lm.session().next_log_probs(live, Decoding(1)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_that_are_nan(llama_lm, dtype):
    broken = copy.deepcopy(llama_lm.model).to(dtype)
    with torch.no_grad():
        broken.get_output_embeddings().weight[0] = torch.nan
    lm = HFLanguageModel(broken, llama_lm.tokenizer, name="broken")
    state = lm.prompt("ab").expand((3,))
    with pytest.raises(LogitsError, match=r"'broken' gave logits that are NaN.*bfloat16"):
        sample(state, Decoding(2), seed=0)
    with pytest.raises(LogitsError, match="NaN"):
        state.session.score(state.prefix(), torch.tensor([[1, 2]] * 3), Decoding(2))
