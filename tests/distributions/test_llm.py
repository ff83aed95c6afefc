"""`LLM` against the enumerated law: exact probabilities, sample frequencies, laziness, absorbing rows, bad input."""

import copy
import pickle

import pyro
import pytest
import torch
from scipy.stats import chisquare

from pyro_llm.distributions import LLM
from pyro_llm.errors import ObservedTextError, OptionError, UnknownStopError
from pyro_llm.lm import PAD, TableLM
from pyro_llm.run_scope import run_scope

EOS = 5
LAWS = [
    {},
    {"temperature": 0.4},
    {"top_k": 2},
    {"top_p": 0.6},
    {"temperature": 1.7, "top_k": 4, "top_p": 0.8},
    {"stop": "c"},  # a token, and the first half of another
    {"stop": "bc"},  # spans b|c, ab|c, b|ca and ab|ca: ends inside a token as well
    {"stop": ("bc", "aa"), "temperature": 0.7, "top_p": 0.9, "top_k": 5},
]


def finished_rows(lm):
    """Four texts, of which the first and third have ended."""
    return lm.prompt("").append(torch.tensor([[0, EOS], [1, 2], [EOS, PAD], [4, 0]]))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_log_prob_is_exact_and_normalised(lm, oracle, as_value, law):
    before = (3, 1)
    expected = oracle(max_tokens=4, **law).steps(before)
    state = lm.prompt("").append(torch.tensor(before))
    log_prob = LLM(lm, state, max_tokens=4, **law).log_prob(as_value(expected, 4))
    torch.testing.assert_close(
        log_prob.exp(), torch.tensor(list(expected.values()), dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert abs(log_prob.exp().sum() - 1) < 1e-12


@pytest.mark.parametrize("law", [LAWS[4], LAWS[7]], ids=str)
def test_an_unfinished_value_has_the_probability_of_all_that_begin_with_it(lm, oracle, as_value, law):
    whole = oracle(max_tokens=4, **law).steps()
    prefixes = {step[:length] for step in whole for length in range(len(step) + 1)}
    expected = [sum(p for step, p in whole.items() if step[: len(prefix)] == prefix) for prefix in prefixes]
    log_prob = LLM(lm, lm.prompt(""), max_tokens=4, **law).log_prob(as_value(prefixes, 4))
    torch.testing.assert_close(log_prob.exp(), torch.tensor(expected, dtype=torch.float64), rtol=1e-11, atol=0)


@pytest.mark.parametrize("law", [LAWS[0], LAWS[4], LAWS[7]], ids=str)
def test_sample_frequencies(lm, oracle, law):
    # Null: draws follow the enumerated law. Seeds are fixed; over seeds the test would fail once in 1,000.
    expected = oracle(max_tokens=3, **law).steps()
    draws, size = LLM(lm, lm.prompt(""), max_tokens=3, **law).expand([40_000]).sample(), 40_000
    counts = dict.fromkeys(expected, 0)
    for row in draws.tolist():
        counts[tuple(id for id in row if id != PAD)] += 1  # a KeyError is a step of probability 0
    observed, probabilities = list(counts.values()), list(expected.values())
    common = [index for index, p in enumerate(probabilities) if p * size >= 5]
    rest = size - sum(observed[index] for index in common), size * (1 - sum(probabilities[index] for index in common))
    f_obs = [observed[index] for index in common] + ([rest[0]] if rest[1] > 1 else [])
    f_exp = [probabilities[index] * size for index in common] + ([rest[1]] if rest[1] > 1 else [])
    scale = sum(f_obs) / sum(f_exp)
    assert chisquare(f_obs, [count * scale for count in f_exp]).pvalue > 1e-3


def test_each_row_follows_the_text_before_it(lm, oracle):
    # Null as above, for two different texts in one batch; 4 standard errors on each of 12 frequencies.
    state, size = lm.prompt("").append(torch.tensor([[0, PAD], [2, 3]])), 20_000
    first = LLM(lm, state, max_tokens=1).sample((size,))[..., 0]
    for row, before in enumerate([(0,), (2, 3)]):
        for token, p in oracle().next_token(before).items():
            frequency = (first[:, row] == token).double().mean().item()
            assert abs(frequency - p) < 4 * (p * (1 - p) / size) ** 0.5


def test_log_prob_of_a_sample_is_kept_from_sampling(lm, oracle):
    step = LLM(lm, lm.prompt(""), stop="bc", max_tokens=3, temperature=0.5).expand([50])
    value = step.sample()
    exact = oracle(stop="bc", max_tokens=3, temperature=0.5).steps()
    expected = [exact[tuple(id for id in row if id != PAD)] for row in value.tolist()]
    log_prob = step.log_prob(value)
    torch.testing.assert_close(log_prob.exp(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0)
    assert lm.requests == [("sample", 50)]
    assert step.mask(torch.tensor(True)).log_prob(value).equal(log_prob)
    assert step.to_event(1).log_prob(value).equal(log_prob.sum())
    rebuilt = LLM(lm, lm.prompt(""), stop="bc", max_tokens=3, temperature=0.5)  # as a replayed program builds it
    assert rebuilt.log_prob(value).equal(log_prob)
    assert lm.requests == [("sample", 50)]


def test_the_kept_log_prob_belongs_to_that_very_law_and_value(lm):
    step = LLM(lm, lm.prompt(""), max_tokens=3).expand([5])
    value = step.sample()
    kept = step.log_prob(value)
    other_text = LLM(lm, lm.prompt("").append(torch.tensor([1])), max_tokens=3).log_prob(value)
    other_law = LLM(lm, lm.prompt(""), max_tokens=3, temperature=0.5).log_prob(value)
    assert not other_text.equal(kept)
    assert not other_law.equal(kept)
    recomputed = step.log_prob(value.clone())
    torch.testing.assert_close(recomputed, kept, rtol=1e-12, atol=0)
    value[:] = torch.tensor([0, 0, 0])  # written over: nothing is known of it any more
    torch.testing.assert_close(step.log_prob(value), step.log_prob(value[:1].clone()).expand(5), rtol=1e-12, atol=0)
    assert [kind for kind, _ in lm.requests] == ["sample", "score", "score", "score", "score", "score"]


def test_nothing_but_sample_and_log_prob_asks_the_model(lm):
    step = LLM(lm, finished_rows(lm), stop="c", max_tokens=3)
    step = pickle.loads(pickle.dumps(copy.copy(step.expand([2, 4]))))
    repr(step), step.support, step.to_event(1), step.mask(torch.tensor(False)), step.shape()
    assert step.has_rsample is False
    assert step.has_enumerate_support is False
    assert lm.requests == step.lm.requests == []


def test_pickle_keeps_the_law(lm):
    step = LLM(lm, finished_rows(lm), stop="c", max_tokens=3, top_p=0.9)
    again = pickle.loads(pickle.dumps(step))
    value = step.sample()
    torch.testing.assert_close(again.log_prob(value.clone()), step.log_prob(value), rtol=1e-12, atol=0)
    pyro.set_rng_seed(3)
    one = step.sample()
    pyro.set_rng_seed(3)
    assert again.sample().equal(one)


def test_finished_rows_are_absorbing_and_leave_the_batch(lm):
    state = finished_rows(lm)
    step = LLM(lm, state, max_tokens=3)
    value = step.sample()
    assert (value[[0, 2]] == PAD).all()
    assert (value[[1, 3], 0] != PAD).all()
    assert lm.requests == [("sample", 2)]
    assert step.log_prob(value)[[0, 2]].tolist() == [0.0, 0.0]
    assert step.log_prob(torch.tensor([0, PAD, PAD]))[[0, 2]].tolist() == [-torch.inf, -torch.inf]
    done = state.finish(torch.ones(4, dtype=torch.bool))
    lm.requests.clear()
    nothing = LLM(lm, done, max_tokens=3).expand([6, 4])
    assert nothing.log_prob(nothing.sample()).equal(torch.zeros(6, 4, dtype=torch.float64))
    assert lm.requests == []


def test_draws_do_not_depend_on_which_rows_are_finished(lm):
    tokens = torch.tensor([[0, 1], [1, 2], [2, 2], [4, 0]])
    pyro.set_rng_seed(11)
    alone = LLM(lm, lm.prompt("").append(tokens), max_tokens=8).sample()
    pyro.set_rng_seed(11)
    state = lm.prompt("").append(tokens).finish(torch.tensor([True, False, True, False]))
    assert LLM(lm, state, max_tokens=8).sample()[[1, 3]].equal(alone[[1, 3]])


def test_sampling_draws_one_number_from_the_global_generator(lm):
    pyro.set_rng_seed(5)
    LLM(lm, lm.prompt(""), max_tokens=4).expand([3]).sample()
    after = torch.get_rng_state()
    pyro.set_rng_seed(5)
    LLM(lm, lm.prompt("").finish(torch.tensor(True)), max_tokens=1).expand([7, 2]).sample()
    assert torch.get_rng_state().equal(after)


@pytest.mark.parametrize("sample_shape", [(), (5,), (2, 3)])
@pytest.mark.parametrize("expanded", [(4,), (3, 4), (2, 1, 4)])
def test_shapes(lm, sample_shape, expanded):
    step = LLM(lm, finished_rows(lm), max_tokens=3).expand(expanded)
    assert step.batch_shape == expanded
    assert step.event_shape == (3,)
    value = step.sample(sample_shape)
    assert value.dtype == torch.int64
    assert value.shape == step.shape(torch.Size(sample_shape))
    assert step.log_prob(value).shape == (*sample_shape, *expanded)
    torch.testing.assert_close(step.log_prob(value.clone()), step.log_prob(value), rtol=1e-12, atol=0)


def test_log_prob_broadcasts_both_ways(lm):
    state = finished_rows(lm)
    step = LLM(lm, state, max_tokens=2)
    value = step.expand([3, 4]).sample()
    wide = step.log_prob(value.clone())
    assert wide.shape == (3, 4)
    for row in range(3):
        torch.testing.assert_close(wide[row], step.log_prob(value[row].clone()), rtol=1e-12, atol=0)
    one_text = LLM(lm, lm.prompt(""), max_tokens=2).log_prob(torch.tensor([[0, 1], [2, 2]]))
    assert one_text.shape == (2,)
    one_value = step.log_prob(torch.tensor([1, 2]))
    assert one_value.shape == (4,)
    assert one_value[1].exp() > 0
    with pytest.raises(ValueError, match="not broadcastable"):
        step.log_prob(torch.zeros(3, 2, dtype=torch.long))


def test_one_session_serves_a_lineage(lm):
    with run_scope() as scope:
        state = lm.prompt("")
        for _ in range(3):
            state = state.append(LLM(lm, state, max_tokens=2, stop="b").expand([10]).sample())
    forwarded = scope.cost.lm_tokens_forwarded
    assert 0 < forwarded <= scope.cost.lm_tokens_sampled  # no text is read twice
    assert lm.requests[0] == ("sample", 10)


def test_another_model_of_the_same_vocabulary_may_continue_a_text(lm, oracle):
    uniform = TableLM(lambda tokens: [1 / 6] * 6, lm.vocabulary, eos_token_id=EOS)
    step = LLM(uniform, lm.prompt(""), max_tokens=1)
    assert step.log_prob(torch.tensor([2])).exp().item() == pytest.approx(1 / 6, rel=1e-12)
    value = step.sample()
    assert step.log_prob(value).exp().item() == pytest.approx(1 / 6, rel=1e-12)
    assert lm.requests == []
    other = TableLM(lambda tokens: [0.5, 0.5], ["x", "y"], eos_token_id=None)
    with pytest.raises(ValueError, match="vocabularies differ"):
        LLM(other, lm.prompt(""), max_tokens=1)


def test_encode_observes_a_text(lm, oracle):
    step = LLM(lm, lm.prompt(""), stop="bc", max_tokens=3)
    assert step.encode("abc").tolist() == [3, 2, PAD]
    exact = oracle(stop="bc", max_tokens=3).steps()
    assert step.log_prob(step.encode("abc")).exp().item() == pytest.approx(exact[(3, 2)], rel=1e-12)
    assert step.encode("", eos=True).tolist() == [EOS, PAD, PAD]
    assert step.log_prob(step.encode("", eos=True)).exp().item() == pytest.approx(exact[(EOS,)], rel=1e-12)


def test_bad_input(lm):
    state = lm.prompt("")
    for option, value in [("max_tokens", 0), ("temperature", 0.0), ("top_p", 0.0), ("top_p", 1.5), ("top_k", -1)]:
        with pytest.raises(ValueError, match=option):
            LLM(lm, state, **{"max_tokens": 2, option: value})
    for stop in ("", "\n", ("a", "z")):
        with pytest.raises(UnknownStopError):
            LLM(lm, state, stop=stop, max_tokens=2)
    step = LLM(lm, state, stop="b", max_tokens=2)
    with pytest.raises(ObservedTextError, match="has 3 tokens"):
        step.encode("aaa")
    with pytest.raises(ObservedTextError, match="runs on after its end"):
        step.encode("ba")
    for outside in ([6, PAD], [PAD, 0], [EOS, 0], [1, 0], [-2, 0]):
        with pytest.raises(ValueError, match="within the support"):
            step.log_prob(torch.tensor(outside))
        unchecked = LLM(lm, state, stop="b", max_tokens=2, validate_args=False)
        assert unchecked.log_prob(torch.tensor(outside)).item() == -torch.inf
    with pytest.raises(ValueError, match="event_shape"):
        step.log_prob(torch.tensor([0, 0, 0]))


def test_what_is_no_state_is_refused(lm):
    with pytest.raises(OptionError, match=r"such as lm.prompt\(...\), not the str 'a text'"):
        LLM(lm, "a text")
