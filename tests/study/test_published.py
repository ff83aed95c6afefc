"""Published sets by their fields, and whether the grader agrees with their solutions. The problems are our own."""

import json
import sys
from types import ModuleType

import pytest
from typer.testing import CliRunner

from pyro_llm.cli.app import app
from pyro_llm.errors import MissingExtraError, ProblemFileError, StudyConfigError
from pyro_llm.study.grading.solutions import check_solutions
from pyro_llm.study.problem import Problem
from pyro_llm.study.problems import load_problems

ROWS = [
    {"problem": "What is $1/2 + 1/4$?", "solution": r"It is $\boxed{\frac{3}{4}}$.", "answer": r"\frac{3}{4}",
     "subject": "Prealgebra", "level": 1, "unique_id": "test/ours/1.json"},
    {"problem": "Half of 7?", "solution": r"$7 / 2 = \boxed{3.5}$.", "answer": r"\frac{7}{2}",
     "subject": "Prealgebra", "level": 1, "unique_id": "test/ours/2.json"},
    {"problem": "Who is taller?", "solution": r"\boxed{\text{Evelyn}}", "answer": r"\text{Evelyn}",
     "subject": "Algebra", "level": 1, "unique_id": "test/ours/3.json"},
    {"problem": "What is $2^{10}$?", "solution": r"It is $\boxed{1000}$.", "answer": "1024",
     "subject": "Algebra", "level": 2, "unique_id": "test/ours/4.json"},
    {"problem": "What is $3!$?", "solution": "It is 6.", "answer": "6",
     "subject": "Algebra", "level": 2, "unique_id": "test/ours/5.json"},
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "ours.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return file


def test_math500_from_a_file(path):
    problems = load_problems({"set": "math500", "path": str(path), "start": 1, "number": 2})
    assert problems == [
        Problem("Half of 7?", r"\frac{7}{2}", "test/ours/2.json"),
        Problem("Who is taller?", r"\text{Evelyn}", "test/ours/3.json"),
    ]


def test_aime_has_numbers_for_names(tmp_path):
    file = tmp_path / "aime.jsonl"
    file.write_text(json.dumps({"id": 60, "problem": "?", "solution": r"\boxed{204}", "answer": "204"}))
    assert load_problems({"set": "aime2024", "path": str(file)}) == [Problem("?", "204", "60")]
    file.write_text(json.dumps({"unique_id": 0, "problem": "?", "solution": r"\boxed{204}", "answer": 204}))
    assert load_problems({"set": "aime2024", "path": str(file)}) == [Problem("?", "204", "0")]
    file.write_text(json.dumps({"problem": "?", "answer": "204"}))
    with pytest.raises(ProblemFileError, match="'unique_id' or 'id'"):
        load_problems({"set": "aime2024", "path": str(file)})


def test_the_hub_needs_a_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install datasets.*path: math500.jsonl"):
        load_problems({"set": "math500"})


def test_the_hub_is_asked_by_the_published_name(monkeypatch):
    asked = []

    def load_dataset(name, split):
        asked.append((name, split))
        if split == "train":
            raise ConnectionError("no network")
        return ROWS

    package = ModuleType("datasets")
    package.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", package)
    assert [problem.source_id for problem in load_problems({"set": "math500", "number": 1})] == ["test/ours/1.json"]
    with pytest.raises(StudyConfigError, match=r"could not be had.*no network"):
        load_problems({"set": "aime2024"})
    assert asked == [("HuggingFaceH4/MATH-500", "test"), ("HuggingFaceH4/aime_2024", "train")]


def test_unknown_options_of_a_set(path):
    with pytest.raises(StudyConfigError, match="unknown key 'pth', did you mean 'path'"):
        load_problems({"set": "math500", "pth": str(path)})


def test_solutions_are_graded(path):
    checked = check_solutions(path)
    assert [one.verdict for one in checked] == ["same", "equal", "same", "different", "no answer"]
    assert [one.is_right for one in checked] == [True, True, True, False, False]
    assert checked[3].stated == "1000"


def test_an_answer_that_cannot_be_read_counts_as_text(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"solution": r"\boxed{$}", "answer": "$"}))
    (checked,) = check_solutions(file)
    assert (checked.verdict, checked.is_right, checked.source_id) == ("unreadable", True, "line-1")
    file.write_text("\n")
    with pytest.raises(ProblemFileError, match="no solutions"):
        check_solutions(file)


def test_the_command_lists_disagreements(path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    shown = CliRunner().invoke(app, ["bench-check", str(path)])
    assert shown.exit_code == 1
    for line in ("test/ours/2.json", "test/ours/4.json", "test/ours/5.json", "1000"):
        assert line in shown.stdout
    assert "test/ours/1.json" not in shown.stdout
    path.write_text(json.dumps({"text": r"\boxed{2}", "gold": 2, "name": "a"}))
    fields = ["--solution", "text", "--answer", "gold", "--id", "name"]
    assert CliRunner().invoke(app, ["bench-check", str(path), *fields]).exit_code == 0
