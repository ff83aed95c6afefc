import pytest

from pyro_llm.cli.problems import read_problems, read_results, same_answer
from pyro_llm.errors import ProblemFileError


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_problems(tmp_path):
    file = write(
        tmp_path / "p.jsonl",
        '{"problem": "1 + 1", "id": "a", "answer": 2, "kind": "ignored"}',
        "",
        '{"problem": "2 + 2"}',
    )
    (first, a), (second, b) = read_problems(file)
    assert (first, a.id, a.problem, a.answer) == (1, "a", "1 + 1", "2")
    assert (second, b.id, b.answer) == (3, "line-3", None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{oops", "not JSON: .* at column 2"),
        ('{"answer": "2"}', "problem: Field required"),
        ('{"problem": ""}', "problem: String should have at least 1 character"),
        ('{"problem": ["1"]}', "problem: Input should be a valid string"),
        ('"1 + 1"', "the line: Input should be"),
        ('{"problem": "3", "id": "a"}', "the id 'a' was used in line 1 already"),
    ],
)
def test_malformed_lines_are_named(tmp_path, line, reason):
    file = write(tmp_path / "p.jsonl", '{"problem": "1", "id": "a"}', line)
    problems = read_problems(file)
    assert next(problems)[1].id == "a"
    with pytest.raises(ProblemFileError, match=rf"p\.jsonl:2: {reason}"):
        next(problems)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ProblemFileError, match="No such file"):
        next(read_problems(tmp_path / "none.jsonl"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"problem": "\xe9"}')
    with pytest.raises(ProblemFileError, match="Cannot read"):
        next(read_problems(tmp_path / "latin.jsonl"))


def test_results_of_others(tmp_path):
    assert read_results(tmp_path / "none.jsonl") == []
    file = write(tmp_path / "r.jsonl", '{"id": "a", "problem": "1", "seed": 1}', '{"id": "b"}')
    with pytest.raises(ProblemFileError, match=r"r\.jsonl:2: not a result of pyro-llm solve: problem: Field required"):
        read_results(file)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [("95", " 95 ", True), ("1,000", "1000.0", True), ("95", "96", False), ("x", "x", True), ("x", "1", False)],
)
def test_same_answer(left, right, same):
    assert same_answer(left, right) is same
