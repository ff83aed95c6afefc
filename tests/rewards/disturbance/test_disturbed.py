"""Disturbed rewards: the law of their errors, that these are fixed, and what the options refuse."""

import math

import numpy as np
import pyro
import pytest
import scipy.stats
import torch

from pyro_llm.errors import OptionError, RewardError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import Disturbed, FunctionReward
from pyro_llm.rewards.disturbance import TRIVIAL_STEP, keyed_uniforms

LM = TableLM(lambda tokens: [0.45, 0.45, 0.1], ["a\n", "b\n", "."], eos_token_id=2)
REWARD = FunctionReward(lambda text: (1 + text.count("a")) / (2 + len(text)))
COUNT = 4096


@pytest.fixture(scope="module")
def state():
    """4,096 distinct texts."""
    rows = torch.tensor([[i >> bit & 1 for bit in range(12)] for i in range(COUNT)])
    return LM.prompt("?").append(rows)


@pytest.mark.parametrize(
    ("kind", "law"), [("gaussian", scipy.stats.norm(scale=1.5)), ("heavy-tailed", scipy.stats.t(2, scale=1.5))]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_noise_is_exact_in_distribution(state, kind, law, seed):
    """Null: errors are drawn from the law. Kolmogorov-Smirnov on 4,096 texts at p < 1e-3; 4 tests: 4e-3 false alarms.

    Power: a scale that is wrong by a fifth is found.
    """
    errors = (Disturbed(REWARD, kind, 1.5, seed)(state) - REWARD(state)).numpy()
    assert scipy.stats.kstest(errors, law.cdf).pvalue > 1e-3
    assert scipy.stats.kstest(1.2 * errors, law.cdf).pvalue < 1e-3


def test_uniform_numbers_are_independent_of_those_of_prefixes_seeds_and_streams():
    """Null: correlations of 4,096 independent pairs are N(0, 1/4096); four tests at 4 standard errors: 3e-4."""
    texts = [f"{i} + {i} = {2 * i}\n" for i in range(COUNT)]
    one = keyed_uniforms(texts, "?", 0, "x")
    others = [
        keyed_uniforms([text + "answer: 1" for text in texts], "?", 0, "x"),
        keyed_uniforms(texts, "?", 1, "x"),
        keyed_uniforms(texts, "?", 0, "y"),
        keyed_uniforms(texts, "another", 0, "x"),
    ]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 4 / math.sqrt(COUNT)
    assert (one > 0).all() and (one < 1).all()


@pytest.mark.parametrize(("kind", "wrong"), [("corrupted", lambda z: torch.full_like(z, 6.0)), ("flipped", torch.neg)])
def test_a_share_of_texts_is_wrong(state, kind, wrong):
    """The share is binomial; 4 standard errors: false alarms 6e-5 each."""
    plain = REWARD(state)
    found = Disturbed(REWARD, kind, 0.25, seed=3)(state)
    expected = wrong(plain)
    changed = found != plain
    told = int((expected != plain).sum())  # flipping log-odds of 0 changes nothing
    assert abs(int(changed.sum()) / told - 0.25) < 4 * math.sqrt(0.25 * 0.75 / told)
    assert torch.equal(found, torch.where(changed, expected, plain))
    assert torch.equal(Disturbed(REWARD, kind, 1.0)(state), expected)


def test_very_high_is_an_option(state):
    found = Disturbed(REWARD, "corrupted", 1.0, log_odds=2.5)(state)
    assert (found == 2.5).all()


def test_exploitable():
    texts = {"7 - 7 = 0\n": True, "17 - 7 = 10\n": False, "7 - 77 = 0": False, "3 + 4 = 7\n12 / 12 = 1\n": True}
    reward = Disturbed(REWARD, "exploitable", 8.0)
    gained = reward.disturb(torch.zeros(len(texts), dtype=torch.float64), "?", list(texts))
    assert gained.tolist() == [8.0 * found for found in texts.values()]
    own = Disturbed(REWARD, "exploitable", 3.0, pattern=r"b\na")
    assert own.disturb(torch.zeros(2), "?", ["a\nb\na\n", "a\nb\n"]).tolist() == [3.0, 0.0]
    assert "\\1" in TRIVIAL_STEP


@pytest.mark.parametrize("kind", ["gaussian", "heavy-tailed", "corrupted", "flipped", "exploitable"])
def test_a_size_of_0_changes_nothing(state, kind):
    assert torch.equal(Disturbed(REWARD, kind, 0)(state), REWARD(state))


@pytest.mark.parametrize("kind", ["gaussian", "corrupted"])
def test_errors_depend_on_the_text_and_the_prompt_alone(kind):
    size = 0.5
    reward = Disturbed(REWARD, kind, size, seed=5)
    tokens = torch.tensor([[[0, 1, 2], [1, 1, -1]], [[0, -1, -1], [0, 1, 2]]])
    whole = reward(LM.prompt("?").append(tokens))
    assert whole.shape == (2, 2) and whole[0, 0] == whole[1, 1]
    alone = reward(LM.prompt("?").append(tokens[0, 1]))
    assert alone == whole[0, 1]  # not on the batch
    stepwise = reward(LM.prompt("?").append(torch.tensor([[1]])).append(torch.tensor([[1]])))
    assert stepwise.item() == whole[0, 1]  # nor on how it was written
    uniforms = keyed_uniforms(["b\nb\n"], "?", 5, "gaussian")
    assert keyed_uniforms(["b\nb\n"], "other", 5, "gaussian") != uniforms


def test_numbers_are_the_same_everywhere():
    """Known numbers: they depend on no process, machine or version."""
    found = keyed_uniforms(["47 + 48 = 95", "é"], "Mia", 11, "gaussian").tolist()
    assert found == [0.9092032879604186, 0.6160780263972172]


def test_infinite_log_odds_stay_infinite():
    certain = FunctionReward(lambda text: float("a" in text))
    state = LM.prompt("?").append(torch.tensor([[0], [1]]))
    for kind in ("gaussian", "heavy-tailed"):
        assert Disturbed(certain, kind, 2.0)(state).tolist() == [math.inf, -math.inf]


def test_it_is_a_reward_again(state):
    reward = Disturbed(REWARD, "gaussian", 1.0)
    assert reward == Disturbed(REWARD, "gaussian", 1.0) and hash(reward) == hash(Disturbed(REWARD, "gaussian", 1.0))
    assert reward != Disturbed(REWARD, "gaussian", 1.0, seed=1)
    assert ((reward**2)(state).sigmoid() - reward(state).sigmoid() ** 2).abs().max() < 1e-12
    model = ReasoningSSM(LM, Disturbed(REWARD, "corrupted", 0.2), max_steps=4, max_tokens=1, stop=None)
    pyro.set_rng_seed(0)
    posterior = SMC(model, num_particles=64, ess_threshold=1, progress=False).run("?")
    assert posterior.stats.resampled.any() and posterior.log_evidence.isfinite().all()


def test_smc_targets_the_disturbed_posterior():
    """Evidence against enumeration: sum of p(x) times the product of the disturbed r. 200 runs, 4 standard errors."""
    reward = Disturbed(REWARD, "gaussian", 2.0, seed=9)
    exact = 0.0
    for tokens, log_prob in LM.enumerate(3):
        rows = torch.tensor([list(tokens[:end]) + [-1] * (3 - end) for end in range(1, len(tokens) + 1)])
        states = [LM.prompt("?").append(row[None]) for row in rows]
        factors = [reward(state).sigmoid().item() for state in states]
        exact += math.exp(log_prob) * math.prod(factors)
    model = ReasoningSSM(LM, reward, max_steps=3, max_tokens=1, stop=None)
    pyro.set_rng_seed(0)
    evidence = SMC(model, num_particles=16, num_runs=200, progress=False).run("?").log_evidence.exp()
    assert abs(evidence.mean() - exact) < 4 * evidence.std() / math.sqrt(200)
    assert evidence.std() / math.sqrt(200) < 0.05 * exact


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "loud", "size": 1.0}, "There is no kind='loud'"),
        ({"kind": "gaussian", "size": -1.0}, "size=-1.0"),
        ({"kind": "heavy-tailed", "size": math.inf}, "size=inf"),
        ({"kind": "corrupted", "size": 1.5}, "size=1.5"),
        ({"kind": "flipped", "size": 20}, "size=20"),
        ({"kind": "gaussian", "size": 1.0, "seed": 0.5}, "seed=0.5"),
        ({"kind": "gaussian", "size": 1.0, "log_odds": 3.0}, 'of a "corrupted" reward alone'),
        ({"kind": "corrupted", "size": 0.1, "pattern": "a"}, 'only an "exploitable" reward'),
        ({"kind": "exploitable", "size": 5.0, "seed": 1}, "nothing is random"),
        ({"kind": "exploitable", "size": 5.0, "pattern": "("}, "no regular expression"),
    ],
)
def test_options(options, message):
    with pytest.raises(OptionError, match=message):
        Disturbed(REWARD, **options)


def test_what_is_no_reward():
    with pytest.raises(RewardError, match="cannot be called"):
        Disturbed("abacus", "gaussian", 1.0)


def test_a_seed_of_numpy_is_an_integer():
    assert repr(Disturbed(REWARD, "gaussian", 1.0, np.int64(3))) == repr(Disturbed(REWARD, "gaussian", 1.0, 3))
