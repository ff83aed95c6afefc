"""The generator of problems: right solutions, two to eight steps, splits that do not meet."""

import re
from itertools import pairwise
from random import Random

import pytest

from pyro_llm import zoo
from training.abacus.plan import LARGEST, exact
from training.abacus.problems import SEEDS, draw, split_of
from training.abacus.publish import records

EQUATION = re.compile(r"(\d+) ([-+*/]) (\d+) = (\d+)")


@pytest.fixture(scope="module")
def some():
    return [draw("train", index) for index in range(400)]


def test_solutions_are_right_and_have_two_to_eight_steps(some):
    for problem in some:
        *lines, last = problem.solution.split("\n")
        assert 2 <= len(lines) <= 8
        for line in lines:
            left, op, right, result = EQUATION.fullmatch(line).groups()
            assert exact(op, int(left), int(right)) == int(result) and 0 < int(result) <= LARGEST
            assert op != "/" or int(left) % int(right) == 0
            assert op != "-" or int(left) > int(right)
        assert last == f"answer: {result}" == f"answer: {problem.answer}"


def test_expressions_mean_what_they_say(some):
    expressions = [p for p in some if p.kind == "expression"]
    for problem in expressions:
        text = re.search(r"[(\d].*[)\d]", problem.text)[0]
        assert eval(text) == int(problem.answer)
    assert len(expressions) > 50


def test_every_number_of_steps_and_both_kinds_occur(some):
    assert {len(p.lines) for p in some} == set(range(2, 9))
    assert {p.kind for p in some} == {"words", "expression"}


def test_splits_have_disjoint_seeds_and_texts():
    starts = sorted(SEEDS.values())
    assert all(b - a >= 10**9 for a, b in pairwise(starts))
    test = {p["problem"] for p in zoo.problems()}
    validation = {draw("validation", index).text for index in range(200)}
    train = {draw("train", index).text for index in range(3_000)}
    assert not test & validation and not test & train and not validation & train
    assert {split_of(text) for text in test} == {"test"}
    assert {split_of(text) for text in train} == {"train"}


def test_a_problem_depends_on_its_number_alone(some):
    assert draw("train", 7) == some[7]
    assert draw("train", 7) != draw("validation", 7)


def test_the_published_problems_come_from_their_seeds():
    assert records() == zoo.problems()


def test_the_pupil_slips_and_the_teacher_does_not(some):
    rng = Random(0)
    assert all(p.attempt(rng, scale=0.0) == p.solution for p in some)
    right = sum(p.attempt(rng).endswith(f"answer: {p.answer}") for p in some) / len(some)
    assert 0.3 < right < 0.8
