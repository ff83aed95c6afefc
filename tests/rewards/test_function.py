"""`FunctionReward`: exact log-odds, each distinct text once, bad returns named."""

import math

import pytest
import torch

from pyro_llm.errors import RewardError
from pyro_llm.lm import PAD, TableLM
from pyro_llm.rewards import FunctionReward, RewardModel
from pyro_llm.run_scope import run_scope

EOS = 3


@pytest.fixture
def lm():
    return TableLM(lambda tokens: [0.25] * 4, ["a", "b", "ab", "."], eos_token_id=EOS)


@pytest.fixture
def state(lm):
    rows = [[[0, 1, PAD], [2, PAD, PAD]], [[0, 1, EOS], [PAD] * 3], [[1, 1, 1], [1, 1, 1]]]
    return lm.prompt("a problem").append(torch.tensor(rows))


def test_log_odds_in_float64_and_shape(state):
    log_odds = FunctionReward(lambda text: {"ab": 0.25, "": 1e-300, "bbb": 1 - 2**-50}[text])(state)
    assert log_odds.dtype == torch.float64
    low, empty, high = math.log(1 / 3), math.log(1e-300), 50 * math.log(2)
    expected = torch.tensor([[low, low], [low, empty], [high, high]], dtype=torch.float64)
    torch.testing.assert_close(log_odds, expected, rtol=1e-12, atol=0)


def test_certainty(lm):
    reward = FunctionReward(lambda text: 0)
    assert reward(lm.prompt("")).item() == -math.inf
    assert FunctionReward(lambda text: True)(lm.prompt("")).item() == math.inf
    assert FunctionReward(lambda text: torch.tensor(0.5))(lm.prompt("")).item() == 0.0


def test_each_distinct_text_once_in_a_run(state):
    asked = []

    def probability(text):
        asked.append(text)
        return 0.5

    reward = FunctionReward(probability)
    with run_scope() as scope:
        reward(state)
        assert asked == ["ab", "", "bbb"]  # "a" + "b", "ab" and "ab" with EOS are one text
        reward(state.append(torch.tensor([[[0], [PAD]], [[PAD], [PAD]], [[PAD], [0]]])))
        assert asked == ["ab", "", "bbb", "aba", "bbba"]
    assert scope.cost.reward_calls == 5
    assert scope.cost.reward_tokens == 0
    with run_scope():
        reward(state)  # another run knows nothing of it
    assert len(asked) == 8


def test_equality_is_that_of_the_function(lm):
    def probability(text):
        return 0.5

    assert FunctionReward(probability) == FunctionReward(probability)
    assert len({FunctionReward(probability), FunctionReward(probability)}) == 1
    assert FunctionReward(probability) != FunctionReward(lambda text: 0.5)
    assert isinstance(FunctionReward(probability), RewardModel)


def test_functions_made_from_the_same_code_are_the_same():
    def make(bound, weights=None):
        return FunctionReward(lambda text, scale=0.5: scale if len(text) < bound and weights is None else 0.1)

    assert make(3) == make(3)
    assert hash(make(3)) == hash(make(3))
    assert make(300) == make(300)
    assert make(3) != make(4)
    weights = torch.ones(2)
    assert make(3, weights) == make(3, weights)
    assert make(3, weights) != make(3, torch.ones(2))
    assert make(3) != FunctionReward(lambda text: 0.5)


@pytest.mark.parametrize("value", [math.nan, 1.5, -0.1, None, "high", math.inf, torch.ones(2), 1 + 1e-9])
def test_what_is_no_probability(state, value):
    with pytest.raises(RewardError, match=r"(?s)for the text 'bbb'.*number in \[0, 1\]"):
        FunctionReward(lambda text: value if text == "bbb" else 0.5)(state)


def test_errors_of_the_function_are_its_own(state):
    def broken(text):
        raise KeyError(text)

    with pytest.raises(KeyError) as raised:
        FunctionReward(broken)(state)
    assert any(repr(raised.value.args[0]) in note for note in raised.value.__notes__)


def test_what_is_no_function():
    with pytest.raises(RewardError, match=r"not 0\.5"):
        FunctionReward(0.5)
