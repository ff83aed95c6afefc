"""Graders: equal answers, and a task's own verifier."""

import pickle
import sys

import pytest

from pyro_llm.errors import MissingExtraError, StudyConfigError
from pyro_llm.study.grading import MathVerifyGrader, load_grader, same_answer
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems import load_problems


@pytest.fixture(scope="module")
def math_verify():
    return load_grader("math-verify")


@pytest.mark.parametrize(
    ("answer", "decision", "right"),
    [
        (r"\frac{1}{2}", "0.5", True),
        ("1,000", "1000.0", True),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)", True),
        ("(x+1)^2", "x^2 + 2x + 1", True),
        ("95", "95 marbles", True),
        ("12", "1,2", False),
        ("1,2", "12", False),
        ("1,2", "2,1", True),
        ("95", "94", False),
        ("95", None, False),
        ("95", "", False),
        ("?", "?", True),
        ("$", "$", True),
        ("$", "95", False),
    ],
)
def test_mathematical_equality(math_verify, answer, decision, right):
    assert math_verify.grade(decision, Problem("?", answer, "a")) is right


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("1,000", "1000", True),
        ("-12,345,678.50", "-12345678.5", True),
        ("1,2", "12", False),
        ("1,00", "100", False),
        ("1000,000", "1000000", False),
        ("1,000,5", "10005", False),
        ("0.1,234", "0.1234", False),
        ("1,2", "1,2", True),
    ],
)
def test_commas_stand_between_thousands_or_between_numbers(left, right, same):
    assert same_answer(left, right) is same and same_answer(right, left) is same


def test_answers_that_take_too_long_are_wrong():
    grader = MathVerifyGrader(timeout=0.5)
    assert not grader.grade("9" * 10 + "^" + "9" * 10 + "^" + "9" * 10 + "+1", Problem("?", r"9^{9^{9^{9^9}}}", "a"))
    assert grader.grade("0.5", Problem("?", "1/2", "b"))


def test_graders_travel_to_workers(math_verify):
    assert math_verify.grade("2/4", Problem("?", "1/2", "a"))
    assert pickle.loads(pickle.dumps(math_verify)).grade("2/4", Problem("?", "1/2", "a"))


def test_unknown_grader():
    with pytest.raises(StudyConfigError, match="same-answer, math-verify, reasoning-gym"):
        load_grader("llm")


def test_reasoning_gym_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    for use in (lambda: load_grader("reasoning-gym"), lambda: load_problems({"task": "leg_counting", "number": 2})):
        with pytest.raises(MissingExtraError, match=r"pyro-llm\[study\]"):
            use()


class TestReasoningGym:
    @pytest.fixture(autouse=True)
    def package(self):
        return pytest.importorskip("reasoning_gym")

    def test_tasks_are_seeded(self):
        spec = {"task": "leg_counting", "number": 3, "seed": 4, "options": {"max_animals": 4}}
        problems = load_problems(spec)
        assert problems == load_problems(spec)
        assert load_problems({**spec, "number": 5})[:3] == problems
        assert load_problems({**spec, "start": 1})[:2] == problems[1:]
        assert load_problems({**spec, "seed": 5}) != problems
        assert [problem.source_id for problem in problems] == [f"leg_counting-4-{i}" for i in range(3)]
        assert "legs" in problems[0].prompt and problems[0].answer.isdigit()

    def test_the_task_grades(self):
        grader = load_grader("reasoning-gym")
        for problem in load_problems({"task": "leg_counting", "number": 3}):
            problem = pickle.loads(pickle.dumps(problem))
            assert grader.grade(problem.answer, problem)
            assert not grader.grade(str(int(problem.answer) + 1), problem)
            assert not grader.grade(None, problem)

    def test_a_verifier_that_is_not_a_comparison(self):
        """Any expression that makes the number from the numbers given is right, not only the one of the answer."""
        grader, problem = load_grader("reasoning-gym"), load_problems({"task": "countdown", "number": 1})[0]
        target = problem.metadata["target"]
        assert grader.grade(f"({problem.answer})", problem)
        assert not grader.grade(str(target), problem)  # uses none of the numbers

    def test_a_template_is_no_part_of_the_question(self):
        """A verifier that reads the question is given it as it was asked."""
        plain, around = (load_problems({"task": "leg_counting", "number": 1, **more})[0]
                         for more in ({}, {"template": "Q: {problem}"}))  # fmt: skip
        assert around.prompt == f"Q: {plain.prompt}" and around.question == plain.question == plain.prompt
        seen = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("reasoning_gym.get_score_answer_fn", lambda task: lambda _, entry: seen.append(entry) or 1.0)
            assert load_grader("reasoning-gym").grade("1", around)
        assert seen[0]["question"] == plain.prompt

    def test_only_its_own_problems(self):
        with pytest.raises(StudyConfigError, match="'a' is of none"):
            load_grader("reasoning-gym").grade("1", Problem("?", "1", "a"))

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ({"task": "leg_countin", "number": 1}, "unknown task 'leg_countin', did you mean 'leg_counting'"),
            ({"task": "leg_counting", "number": 1, "options": {"legs": 2}}, "options of 'leg_counting'.*legs"),
            ({"task": "leg_counting", "number": 1, "options": {"min_animals": 0}}, "min_animals"),
            ({"task": "leg_counting"}, "number"),
        ],
    )
    def test_bad_tasks(self, spec, message):
        with pytest.raises(StudyConfigError, match=message):
            load_problems(spec)
