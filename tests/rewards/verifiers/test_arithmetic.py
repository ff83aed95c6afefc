"""Equations found in steps, and worked out exactly."""

import math
import time

import pytest
import torch

from pyro_llm.errors import OptionError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import ArithmeticReward
from pyro_llm.rewards.verifiers.equations import equations


def verdicts(text):
    return [equation.right for equation in equations(text)]


@pytest.mark.parametrize(
    "text",
    [
        "47 + 48 = 95",
        "So he has 47+48=95 marbles.",
        "3 x 4 = 12, 3x4 = 12",
        "3 × 4 = 12",
        "3 * 4 = 12 and 3 · 4 = 12",
        "12 ÷ 4 = 3",
        "1,500 + 2,500 = 4,000",
        "1,234,567.5 * 2 = 2469135",
        "0.1 + 0.2 = 0.3",
        ".5 * 4 = 2",
        "20% of 50 = 10",
        "50 * 20% = 10",
        "3/20 = 15%, 3/20 * 100 = 15%",
        "25% = 0.25 = 1/4",
        "10 / 3 = 3.33",
        "10 / 3 ≈ 3",
        "2 / 3 = 66.7%",
        "(2 + 3) * (4 - 1) = 15",
        "2 ^ 10 = 1024 and 2**10 = 1024",
        "5 - 8 = -3",
        "-3 + 5 = 2",
        "95 = 47 + 48",
        "47 + 48 == 95",
        "x = 5 + 3 = 8",
        "Total: 5 + 3 = 8.",
        "$5 + $3 = $8",
        "$47 + 48 = 95$",
        r"\(47 \times 2 = \boxed{94}\)",
        r"\frac{1}{2} + \frac{1}{4} = 0.75",
        r"\frac{12}{4} = 3 \text{ apples}",
        "48/2 = <<48/2=24>>24 clips",
        "7 − 2 = 5",
        "007 + 1 = 8",
        "12 - 5 = 7 apples each",
    ],
)
def test_right(text):
    assert verdicts(text), "no equation was found"
    assert all(verdicts(text))


@pytest.mark.parametrize(
    "text",
    [
        "47 + 48 = 85",
        "7 / 2 = 3",
        "10 / 3 = 3.34",
        "10 / 3 ≈ 4",
        "0.1 + 0.2 = 0.30001",
        "1,500 + 1 = 1,500",
        "20% of 50 = 20",
        "2 + 3 * 4 = 20",
        "95 = 47 + 49",
        "2.5 = 3",
        "2 ^ 3 ^ 2 = 64",
        "8 - 5 = -3",
    ],
)
def test_wrong(text):
    assert verdicts(text) == [False]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "She gives 15 to Tom.",
        "answer: 95",
        "x = 5",
        "5 = 5",
        "2x + 3 = 7",
        "y = 2x + 3",
        "x - 3 = 4",
        "x + 3 = 7",
        "8 = 5 + x",
        "5 apples + 3 apples = 8 apples",
        "1 / 0 = 5",
        "5 + = 8",
        "5 + 3 =",
        "= 8",
        "100 + 10% = 110",
        "5 + 3 >= 7",
        "5 + 3 != 7",
        "5 (3) = 15",
        "1 1/2 = 1.5",
        "2 ^ 0.5 = 1.41",
        "9 ^ 9 ^ 9 = 1",
        "9^64^64 = 1",
        "1.2.3 + 1 = 2",
        "(((1 + 2 = 3",
        "(" * 5000 + "1" + ")" * 5000 + " + 1 = 2",
        "5 + 3\n= 9",
        "999 + 1 = 1e3",
        "x2 + 3 = 7",
        "5 + 3 = 8x",
        "__import__('os').system('x') = 1",
    ],
)
def test_no_equation(text):
    assert verdicts(text) == []


def test_chains_and_several():
    assert verdicts("2 + 2 = 4 = 1 + 3 = 5") == [True, True, False]
    assert verdicts("2 + 2 = 4, 4 * 2 = 8. 8 - 1 = 6") == [True, True, False]
    assert [equation.text for equation in equations("so 2 x 3 = 6.")] == ["2 * 3 = 6"]


def test_long_texts_take_no_time():
    started = time.process_time()
    for text in (
        "1 + " * 20000 + "1 = 2",
        "1=" * 20000,
        "9" * 20000 + " + 1 = 2",
        "1,000" * 5000,
        "2*" * 400 + "2 = 1",
    ):
        list(equations(text))
    assert time.process_time() - started < 5


@pytest.fixture
def state():
    vocabulary = ["1 + 1 = 2", "1 + 1 = 3", "so", "\n", "."]
    lm = TableLM(lambda tokens: [0.2] * 5, vocabulary, eos_token_id=4)
    return lm.prompt("").append(torch.tensor([[0, 3, -1], [1, 3, -1], [1, 3, 0], [2, -1, -1], [0, 3, 2]]))


def test_the_last_step_is_judged(state):
    soft = ArithmeticReward(right=0.9, wrong=0.1, no_equation=0.5)
    assert soft(state).sigmoid().tolist() == pytest.approx([0.9, 0.1, 0.9, 0.5, 0.5])
    whole = ArithmeticReward(right=0.9, wrong=0.1, no_equation=0.5, separator=None)
    assert whole(state).sigmoid().tolist() == pytest.approx([0.9, 0.1, 0.1, 0.5, 0.9])
    assert ArithmeticReward()(state).tolist() == [math.inf, -math.inf, math.inf, math.inf, math.inf]
    assert ArithmeticReward().with_error(0.25, 0.25)(state).sigmoid().tolist() == pytest.approx(
        [0.75, 0.25] + [0.75] * 3
    )


def test_equal_by_content():
    assert ArithmeticReward() == ArithmeticReward(1.0, 0.0)
    assert len({ArithmeticReward(), ArithmeticReward(), ArithmeticReward(wrong=0.1)}) == 2


def test_bad_options():
    with pytest.raises(OptionError, match=r"wrong=2: give a probability"):
        ArithmeticReward(wrong=2)
    with pytest.raises(OptionError, match="separator"):
        ArithmeticReward(separator="")
