import pytest

from pyro_llm import answer


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("47 + 48 = 95\nanswer: 95", "95"),
        ("answer: 1\nno\nanswer:  2 \n", "2"),
        ("Answer: -3.5", "-3.5"),
        ("Final answer: 12 apples\nDone.", "12 apples"),
        ("the answer: 95", None),  # not a line of its own
        (r"\boxed{3}", "3"),
        (r"\boxed{1} then \boxed {2}", "2"),
        (r"$\boxed{\frac{1}{\sqrt{2}}}$", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}", None),
        (r"\boxed{5} and \boxed{6", "5"),  # cut off
        (r"\boxed{}", None),
        ("work\n#### 18", "18"),
        ("#### 1\n#### 1,024\n", "1,024"),
        ("answer: 7\n#### 8", "7"),
        (r"\boxed{9} #### 8", "9"),
        ("answer:\n#### 8", "8"),
        ("answer:", None),
        ("47 + 48 = 95", None),
        ("", None),
    ],
)
def test_answer(text, expected):
    assert answer(text) == expected
