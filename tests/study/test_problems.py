import json

import pytest

from pyro_llm import zoo
from pyro_llm.errors import ProblemFileError, StudyConfigError
from pyro_llm.study.grading import load_grader, same_answer
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems import load_problems


def write(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return str(path)


def test_a_built_in_set():
    published = zoo.problems("abacus")
    assert len(load_problems({"set": "abacus"})) == len(published)
    second = load_problems({"set": "abacus", "start": 1, "number": 1})
    assert second == [Problem(published[1]["problem"], published[1]["answer"], str(published[1]["id"]))]


def test_fields_of_a_file_are_named(tmp_path):
    path = write(tmp_path / "p.jsonl", {"question": "1+1", "gold": 2}, {"question": "é", "gold": "x", "unique": "b"})
    spec = {"file": path, "problem": "question", "answer": "gold", "id": "unique"}
    assert load_problems(spec) == [Problem("1+1", "2", "line-1"), Problem("é", "x", "b")]


def test_a_template_stands_around_each_problem_and_is_left_alone_otherwise():
    plain = load_problems({"set": "abacus", "number": 2})
    around = load_problems({"set": "abacus", "number": 2, "template": "{1 + 1}\n{problem}\nA: {}"})
    assert [one.prompt for one in around] == [f"{{1 + 1}}\n{one.prompt}\nA: {{}}" for one in plain]
    assert [(one.answer, one.source_id) for one in around] == [(one.answer, one.source_id) for one in plain]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"set": "abacus", "template": "Q: A:"}, r"template: .*\{problem\} 0 times"),
        ({"set": "abacus", "template": "{problem} {problem}"}, r"\{problem\} 2 times"),
        ({}, "there is none in"),
        ({"set": "abacus", "file": "x"}, "there are set, file"),
        ({"set": "abacus", "numbr": 3}, "unknown key 'numbr', did you mean 'number'"),
        ({"set": "abbacus"}, "unknown set 'abbacus', did you mean 'abacus'"),
        ({"set": "abacus", "number": 0}, "number: it should be greater than or equal to 1"),
    ],
)
def test_bad_sources(spec, message):
    with pytest.raises(StudyConfigError, match=message):
        load_problems(spec)


def test_bad_files(tmp_path):
    with pytest.raises(ProblemFileError, match="Cannot read"):
        load_problems({"file": str(tmp_path / "none.jsonl")})
    path = write(tmp_path / "p.jsonl", {"problem": "1+1", "answer": "2"}, {"question": "1+1", "answer": "2"})
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:2: the field 'problem' .* 'question', 'answer'"):
        load_problems({"file": path})
    path = write(tmp_path / "p.jsonl", *[{"problem": "1", "answer": "1", "id": "a"}] * 2)
    with pytest.raises(StudyConfigError, match="the id 'a'"):
        load_problems({"file": path})
    (tmp_path / "p.jsonl").write_text("\n")
    with pytest.raises(StudyConfigError, match="none in"):
        load_problems({"file": path})


def test_no_answer_is_wrong():
    problem, grader = Problem("1 + 1", "2", "a"), load_grader("same-answer")
    assert [grader.grade(decision, problem) for decision in ("2.0", "3", None)] == [True, False, False]
    with pytest.raises(StudyConfigError, match=r"choose one of .*same-answer"):
        load_grader("sameanswer")


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("95", " 95 ", True),
        ("1,000", "1000.0", True),
        ("95", "96", False),
        ("x", "x", True),
        ("x", "1", False),
        ("1" + "0" * 400, "2" + "0" * 400, False),
    ],
)
def test_same_answer(left, right, same):
    assert same_answer(left, right) is same


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"number": 100_000}, "number: 100000 are asked for, and there are 500 in all"),
        ({"number": 2, "start": 499}, "number: 2 are asked for after the first 499, and there are 500 in all"),
        ({"start": 500}, "start: 500 are to be passed over, and there are 500"),
    ],
)
def test_more_problems_than_there_are(choice, message):
    with pytest.raises(StudyConfigError, match=message):
        load_problems({"set": "abacus", **choice})


def test_the_last_problem_can_be_chosen():
    assert len(load_problems({"set": "abacus", "number": 1, "start": 499})) == 1
