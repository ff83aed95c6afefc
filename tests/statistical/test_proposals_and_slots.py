"""What the engine draws has the law that it states, and does not depend on how particles are batched."""

import itertools

import pyro
import pytest
import torch
from scipy.stats import chisquare

from pyro_llm.distributions import LLM, ConstrainedNextToken, NextToken, PoweredNextToken
from pyro_llm.infer import SMC, Importance
from pyro_llm.lm import PAD, TableLM

ROWS = {"": [0.45, 0.25, 0.2, 0.1], "a": [0.1, 0.4, 0.2, 0.3], "b": [0.3, 0.3, 0.3, 0.1], "c": [0.6, 0.1, 0.1, 0.2]}
LAWS = [{}, {"temperature": 0.5}, {"top_p": 0.7}, {"top_k": 2}, {"temperature": 1.6, "top_p": 0.9, "top_k": 3}]
DRAWS = 20_000


@pytest.fixture
def lm():
    vocabulary = ["a", "b", "c", "."]
    return TableLM(lambda tokens: ROWS[vocabulary[tokens[-1]] if tokens else ""], vocabulary, eos_token_id=3)


def steps(lm, law):
    state = lm.prompt("")
    for t in range(2):
        state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, max_tokens=2, **law)))
    return state


def tokens(lm, law):
    state = lm.prompt("")
    for t in range(3):
        state = state.append_token(pyro.sample(f"token_{t}", NextToken(lm, state, **law)))
    return state


def masked(lm, law):
    state = lm.prompt("")
    for t in range(3):
        mask = torch.tensor([True, t != 1, t == 1, True])
        state = state.append_token(pyro.sample(f"token_{t}", ConstrainedNextToken(lm, state, mask, **law)))
    return state


def powered(lm, law):
    state = lm.prompt("")
    for t in range(3):
        state = state.append_token(pyro.sample(f"token_{t}", PoweredNextToken(lm, state, 2.5, **law)))
    return state


@pytest.mark.parametrize("law", LAWS, ids=str)
@pytest.mark.parametrize("program", [steps, tokens, masked, powered])
def test_frequencies_are_the_stated_probabilities(program, law, lm):
    """Null: texts are drawn with exp(log_prior). Chi-squared over 20,000 particles; 20 cases at 1e-4 each: 2e-3."""
    posterior = Importance(program, DRAWS, progress=False).run(lm, law)
    stated = {}
    for row, log_prior in zip(posterior.returns.tokens[0].tolist(), posterior.log_prior[0].tolist(), strict=True):
        stated.setdefault(tuple(row), []).append(log_prior)
    for terms in stated.values():
        assert max(terms) - min(terms) < 1e-9  # one text, one probability
    counts = [len(terms) for terms in stated.values()]
    expected = [DRAWS * torch.tensor(terms[0]).exp().item() for terms in stated.values()]
    unseen = DRAWS - sum(expected)
    assert -1e-6 < unseen / DRAWS < 1e-2  # probabilities that do not sum to 1 would show here
    common = [(count, mean) for count, mean in zip(counts, expected, strict=True) if mean >= 10]
    rare = DRAWS - sum(count for count, _ in common), DRAWS - sum(mean for _, mean in common)
    cells = [*common, rare] if rare[1] > 1e-6 else common
    if rare[1] <= 1e-6:
        assert rare[0] == 0
    observed, means = zip(*cells, strict=True)
    if len(cells) > 1:
        assert chisquare(observed, [mean * sum(observed) / sum(means) for mean in means]).pvalue > 1e-4


def trimmed(row):
    return list(itertools.takewhile(lambda token: token != PAD, row))


def rows_of(posterior):
    return [trimmed(row) for row in posterior.returns.tokens.flatten(0, 1).tolist()]


@pytest.mark.parametrize("program", [steps, tokens, masked, powered])
def test_a_particle_draws_the_same_in_any_company(program, lm):
    """Alone, among few or among many, in one run or several: a slot's tokens are those of its key."""
    drawn = []
    for num_runs, num_particles in ((1, 1), (1, 5), (5, 1), (1, 64), (8, 8)):
        pyro.set_rng_seed(5)
        drawn.append(rows_of(Importance(program, num_particles, num_runs=num_runs, progress=False).run(lm, {})))
    for few in drawn:
        assert few == drawn[-1][: len(few)]
    assert len({tuple(row) for row in drawn[-1]}) > 8


@pytest.mark.parametrize("program", [steps, tokens, masked, powered])
def test_particle_by_particle_draws_are_those_of_the_batch(program, lm):
    drawn = []
    for particles in ("vectorized", "scalar"):
        pyro.set_rng_seed(6)
        drawn.append(rows_of(Importance(program, 12, particles=particles, progress=False).run(lm, {})))
    assert drawn[0] == drawn[1]


def test_compaction_and_padding_change_no_draw(lm):
    """Texts that end leave the batch, others are padded to longer ones: what the rest draws stays the same."""

    def program(ended, pads):
        state = lm.prompt("").expand((16,))
        first = pyro.sample("first", LLM(lm, state, max_tokens=2, top_k=3))
        if pads:
            first = torch.nn.functional.pad(first, (0, 7), value=PAD)
        state = state.append(first)
        state = state.finish(torch.arange(16) < ended)
        return state.append(pyro.sample("second", LLM(lm, state, max_tokens=4, top_k=3)))

    results = []
    for ended, pads in ((0, False), (0, True), (9, False), (15, True)):
        pyro.set_rng_seed(7)
        with pyro.plate("texts", 16):
            results.append([trimmed(row) for row in program(ended, pads).tokens.tolist()])
    assert results[0] == results[1]
    assert results[0][9:] == results[2][9:]
    assert results[0][15:] == results[3][15:]
    assert results[0][:9] != results[2][:9]


def test_permuted_ancestors_do_not_move_keys(lm):
    """After resampling, the tokens of a slot are drawn by the slot's own key, whatever its ancestor."""

    def program(keep):
        state = lm.prompt("")
        first = pyro.sample("first", LLM(lm, state, max_tokens=1, top_k=2))
        state = state.append(first)
        pyro.factor("select", torch.where(first[..., 0] == keep, 0.0, -torch.inf))
        second = pyro.sample("second", LLM(lm, state, max_tokens=1))
        return state.append(second)

    pyro.set_rng_seed(8)
    selected = SMC(lambda: program(0), 40, ess_threshold=1.0, progress=False).run()
    assert (selected.samples["first"] == 0).all()
    pyro.set_rng_seed(8)
    state = lm.prompt("").append(torch.tensor([0])).expand((40,))
    LLM(lm, lm.prompt(""), max_tokens=1, top_k=2).expand([40]).sample()
    torch.rand(1, 1, dtype=torch.float64)  # the resampling's
    assert torch.equal(LLM(lm, state, max_tokens=1).sample(), selected.samples["second"][0])
