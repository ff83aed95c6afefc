"""Answers that mean the same are one answer."""

import json

import pytest

from pyro_llm.errors import MissingExtraError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward
from pyro_llm.study import parse_config, run_study, work
from pyro_llm.study.grading import load_grader
from pyro_llm.study.math_answers import MathAnswers
from pyro_llm.study.problem import Problem
from pyro_llm.study.reading import load_answer

EQUAL = [
    (r"\frac12", "0.5", "1/2", r"\frac{1}{2}", r"\dfrac{2}{4}", ".5"),
    ("3.5", r"3\frac12", r"\frac72"),
    ("50", r"50\%", "50%"),
    ("95", "95 marbles", r"95\text{ cm}", "95.0", r"95^\circ"),
    ("1,000", "1000", "1{,}000", r"1,\!000"),
    (r"\$18.90", "18.9"),
    (r"\{1,2\}", r"\{2, 1\}", "2,1"),
    ("(1,2]", r"\left(1,2\right]", r"x \in (1,2]"),
    ("[1,2)", r"1 \le x < 2"),
    (r"(3,\infty)", "x>3", "3<x"),
    (r"(-\infty,2)\cup(3,\infty)", r"(3,\infty)\cup(-\infty,2)"),
    (r"(3, \frac{\pi}{2})", r"\left( 3, \pi/2 \right)"),
    (r"2\sqrt2", r"\sqrt{8}", r"\frac{4}{\sqrt2}"),
    (r"1 \pm \sqrt{2}", r"1+\sqrt2, 1-\sqrt2"),
    ("(x+1)^2", "x^2 + 2x + 1"),
    ("x=5", "5"),
    ("y-2x=1", "2y = 4x + 2"),
    ("6 - 5i", "-5i+6"),
    (r"\begin{pmatrix}1\\1/2\end{pmatrix}", r"\begin{pmatrix}1\\0.5\end{pmatrix}"),
    (r"\text{Evelyn}", "Evelyn", r"\text{evelyn}"),
    (r"\text{(C)}", "C"),
    ("x>y", "y<x"),
    (r"\infty",),
    ("2^{100}",),
    ("2^{100}+1",),
]
DIFFERENT = [
    ("(1,2)", "(2,1)"),
    ("(1,2)", "[1,2]"),
    ("1,2", "12"),
    ("0.333", r"\frac13"),
    ("-1/2", "1/2"),
    ("|x|", "x"),
    ("x>3", r"x \ge 3"),
    ("x>y", "y>x"),
    ("east", "seat"),
    ("2x", "x"),
]


@pytest.fixture(scope="module")
def read():
    return load_answer("math")


def boxed(answer):
    return rf"So it is $\boxed{{{answer}}}$."


def test_equal_answers_are_one(read):
    found = [{read(boxed(written)) for written in group} for group in EQUAL]
    assert [len(forms) for forms in found] == [1] * len(EQUAL)
    assert len(set.union(*found)) == len(EQUAL)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_answers_are_not(read, one, other):
    assert read(boxed(one)) != read(boxed(other))


def test_what_is_graded_is_the_answer_as_it_was_written(read):
    """Answers as MATH has them; what is read from each is graded right against it."""
    grader = load_grader("math-verify")
    for written in [written for group in EQUAL for written in group] + [r"\frac{243}{625}", "2516_8", "10,\\! 080"]:
        stated = read(boxed(written))
        assert str(stated) == written and grader.grade(str(stated), Problem("?", written, "a"))


def test_what_cannot_be_read_is_itself(read):
    assert read("no answer") is None
    assert read("answer: ?") == read("so\nanswer: ?") != read("answer: !")
    assert str(read("answer: ?")) == read("answer: ?").form == "?"
    tower = "9" * 10 + "^" + "9" * 10 + "^" + "9" * 10 + "+1"
    hurried = MathAnswers(timeout=0.5)
    assert hurried(boxed(tower)).form == tower
    assert hurried(boxed("0.5")) == read(boxed("1/2"))


def test_an_answer_is_read_once(read, monkeypatch):
    asked = []
    monkeypatch.setattr(read._pool, "map", lambda texts, is_fatal: asked.append(texts))
    assert read(boxed(r"\frac12")) == read("answer: 1/2")
    assert not asked


def test_it_is_an_extra(monkeypatch):
    monkeypatch.setattr("pyro_llm.rewards.verifiers.math_verify.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pyro-llm\[verifiers\]"):
        MathAnswers()


def test_votes_for_one_number_are_counted_together(raw, tmp_path, monkeypatch):
    """Two thirds of the mass are on one half, in three ways of writing it, each less probable than 7."""
    written = [r"\boxed{1/2}", r"\boxed{0.5}", r"\boxed{\frac{1}{2}}", r"\boxed{7}"]
    lm = TableLM(
        lambda tokens: [0.2, 0.2, 0.2, 0.4, 0.0] if not tokens else [0.0] * 4 + [1.0], [*written, "."], eos_token_id=4
    )
    monkeypatch.setattr(work, "_lm", lambda spec: lm)
    monkeypatch.setattr(work, "_reward", lambda spec, seed: FunctionReward(lambda text: 0.5))
    (tmp_path / "problems.jsonl").write_text(json.dumps({"problem": "?", "answer": r"\frac12"}))
    config = raw(
        problems={"file": str(tmp_path / "problems.jsonl")},
        algorithms={"PF": {"algorithm": "SMC"}, "majority": {"algorithm": "SelfConsistency"}},
        budgets={"generations": [256]},
        grader="math-verify",
        variants={"as texts": {}, "as numbers": {"answer": "math"}},
    )
    rows = run_study(parse_config(config), tmp_path / "rows", progress=False).rows
    assert [(row.variant, row.right) for row in rows] == [("as texts", False)] * 2 + [("as numbers", True)] * 2
    assert rows[0].decision == "7" and rows[2].decision in ("1/2", "0.5", r"\frac{1}{2}")
    assert abs(rows[2].probability - 0.6) < 0.12  # four standard deviations of 256 draws
