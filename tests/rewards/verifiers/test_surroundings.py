r"""What stands around an equation: it makes no right one wrong, and hides no plain one."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyro_llm.rewards.verifiers.equations import equations


def verdicts(text):
    return [equation.right for equation in equations(text)]


@pytest.mark.parametrize(
    "text",
    [
        # marks of lists and steps
        "- 47 + 48 = 95", "+ 47 + 48 = 95", "* 47 + 48 = 95", "• 47 + 48 = 95", "1) 47 + 48 = 95", "(a) 47 + 48 = 95",
        "Step 1 - 3 + 4 = 7", "Step 1 – 3 + 4 = 7", "Step 2: - 3 + 4 = 7", "Step 2. - 3 + 4 = 7", "- 3 = 12",
        # LaTeX
        r"$2^{3} + 1 = 9$", r"$\sqrt{16} + 2 = 6$", r"\sqrt 16 + 2 = 6", r"\frac{\sqrt{4}}{2} + 1 = 2",
        r"a_{1} + 2 = 5",
        r"a_1 + 2 = 5", r"\binom{5}{2} + 1 = 11", r"\log_{10} 100 + 1 = 3", r"\frac12 + 1 = 1.5", r"5 + 1 = 3 \sqrt{4}",
        r"\sum_{i=1}^{3} i + 1 = 7", r"10 + 5 = 3 \pmod{12}", r"2\frac{1}{2} + 1 = 3.5",
        # symbols
        "3! - 1 = 5", "5 + 1 = 3!", "|-5| + 3 = 8", "8 = 2 |4|", "√16 + 2 = 6", "√ 16 + 2 = 6", "6 = 2 + √16",
        "3:4 = 6:8", "3 : 4 = 6 : 8", "3: 4 = 6: 8", "3² + 1 = 10", "5 + 4 = 3²", "7/2 = 3½", "20° + 5 = 25",
        "5 – 3 + 4 = 6", "6 = 10 – 4", "1,5 + 2 = 3,5", "5 . 3 = 15", "5' + 3' = 8'", "0x10 + 1 = 17", "6 = 5 ± 1",
        "f(2) + 1 = 5", "f (2) + 1 = 5", "C(5, 2) + 1 = 11", "2/3 = 0.666...", "max(2, 3) + 1 = 4", "a[1] + 2 = 5",
        # words
        "Half of 48 = 24", "half of 48 + 2 = 26", "twice 5 = 10", "twice 5 + 3 = 13", "The sum of 3 and 4 = 7",
        "The sum of 3 and 4 + 1 = 8", "The square root of 16 = 4", "The square root of 16 + 2 = 6", "log 100 + 1 = 3",
        "10 plus 4 = 14", "10 plus 4 * 2 = 18", "4 times 3 = 12", "10 divided by 2 = 5", "10 mod 3 = 1",
        "1/3 of 12 = 4", "1/3 of 12 + 1 = 5", "add 3 to 4 + 1 = 8", "subtract 3 from 10 + 2 = 9",
        "5 more than 3 + 4 = 12",
        "The average of 1, 3 + 4 = 4", "three plus 4 + 1 = 8", "negative 5 + 8 = 3", "4 choose 2 = 6", "Room 5 = 7",
        # what follows
        "17 / 5 = 3 remainder 2", "17 / 5 = 3, remainder 2", "17 / 5 = 3 with a remainder of 2", "17 / 5 = 3 R2",
        "7 / 2 = 3 and a half", "7 / 2 = 3 and 1/2", "9 + 3 = 1 dozen", "500 + 500 = 1 thousand", "3 + 9 = 4 times 3",
        "5 + 4 = 3 squared", "12 = 5 more than 7", "3 + 3 = 2 x",
    ],
)  # fmt: skip
def test_right_or_left_alone(text):
    assert False not in verdicts(text)


@pytest.mark.parametrize(
    "text",
    [
        "- 47 + 48 = 85", "* 47 + 48 = 85", "• 47 + 48 = 85", "1. 47 + 48 = 85", "Step 1: 47 + 48 = 85",
        "Step 1 - 47 + 48 = 85", "**Total:** 47 + 48 = 85", "**47 + 48 = 85**", "| 47 + 48 = 85 |", "→ 47 + 48 = 85 ✓",
        "$2^{3} + 1 = 8$", r"\frac{\frac{6}{3}}{4} = 0.6", r"$47 + 48 = 85 \quad$", r"47 + 48 &= 85 \\", "¥5 + ¥3 = ¥9",
        "So twice as many is 2 * 5 = 11", "The sum of 47 + 48 = 85", "The sum is 47 + 48 = 85", "Add 47 + 48 = 85",
        "Half, so 47 + 48 = 85", "He has 95 = 47 + 49", "twice as many, 47 + 48 = 85",
        "at a cost of 47 + 48 = 85 dollars",
        "which is equal to 47 + 48 = 85", "a total of 47 + 48 = 85", "47 + 48 = 85!", "half of it = 47 + 48 = 85",
        "“47 + 48 = 85”", "`47 + 48 = 85`",
        "47 + 48 = 85 and all is said", "6 * 2 = 13 months", "47 + 48 = 85 and 5 + 3 = 8",
        "3! = 6 and 47 + 48 = 85 marbles.",
    ],
)  # fmt: skip
def test_wrong_is_found(text):
    assert False in verdicts(text)


def test_meanings_and_cut_decimals():
    assert verdicts("- 3 + 4 = 1") == verdicts("- 3 + 4 = 7") == [True]
    assert verdicts("- 3 + 4 = 8") == [False]
    assert verdicts("2 / 3 = 0.667") == verdicts("2 / 3 = 0.666...") == [True]
    assert verdicts("2 / 3 = 0.666") == verdicts("2 / 3 = 0.656...") == [False]
    assert verdicts("5 + 1 = 3!") == verdicts("5 + 1 = 6!") == [True]
    assert verdicts("5 + 1 = 7!") == [False]


WORDS = """
he has so and then the a total of half twice sum product root square log average add from to by than times plus over
number is three mod cost apples x marbles remainder dozen percent thousand squared per each and r2 Step
, . : ; ! ? ( [ ' " – — | √ → … ... • ** ≠ ± ² ½ $ % _ { } \\sqrt{9} \\binom{5}{2} \\text{so}
"""
PROSE = WORDS.split()
BEFORE = [*PROSE, "Step 1 -", "Step 2:", "3 and", "10 plus", "4 times", "17, ", "sum of 3 and", "half of"]
AFTER = [*PROSE, "remainder 2", ", remainder 2", "times 4", ":8", "R 2", ",5", "and 1/2"]
symbols = st.text(
    st.characters(categories=["L", "P", "S", "Zs", "M", "No"], exclude_characters="-−–*/+^%(=≈"), max_size=6
)


def written(left, sign, right, spaced):
    """A right equation, by Python's own arithmetic."""
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left / right}[sign]
    gap = " " if spaced else ""
    return f"{left}{gap}{sign}{gap}{right}{gap}={gap}{f'{result:.3f}' if sign == '/' else result}"


equality = st.builds(written, st.integers(0, 200), st.sampled_from("+-*/"), st.integers(1, 200), st.booleans())


@given(st.lists(st.sampled_from(BEFORE), max_size=5), equality, st.lists(st.sampled_from(AFTER), max_size=4), st.data())
@settings(max_examples=400, deadline=None, derandomize=True)
def test_prose_makes_no_right_equation_wrong(before, equation, after, data):
    gaps = [data.draw(st.sampled_from([" ", " ", ""])) for _ in range(2)]
    text = " ".join(before) + gaps[0] + equation + gaps[1] + " ".join(after)
    assert False not in verdicts(text), text


@given(symbols, equality, symbols)
@example("√", "9 + 1 = 10", "²")
@settings(max_examples=400, deadline=None, derandomize=True)
def test_no_sign_makes_a_right_equation_wrong(before, equation, after):
    assert False not in verdicts(before + equation + after)


@given(
    st.sampled_from(["", "So ", "He has ", "Total: ", "Then, ", "She pays "]),
    equality,
    st.sampled_from(["", ".", " apples."]),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_plain_equations_are_found(before, equation, after):
    assert verdicts(before + equation + after) == [True]
    left, _, right = equation.rpartition("=")
    wrong = f"{left}= {float(right) + 1:g}" if "." not in right else f"{left}= {float(right) + 1:.3f}"
    assert verdicts(before + wrong + after) == [False]
