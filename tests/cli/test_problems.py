from pathlib import Path

import pytest

from pyro_llm.cli.problems import read_problems
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
        ('{"problem": "1 + 1"', "not JSON: .* at column 20"),
        ('{"answer": "2"}', "problem: it is missing"),
        ('{"problem": ""}', "problem: must not be blank"),
        ('{"problem": " \\n"}', "problem: must not be blank"),
        ('{"problem": "1", "id": ""}', "id: must not be blank"),
        ('{"problem": "\\ud800"}', "problem: holds half of a surrogate pair"),
        ('{"problem": "1", "answer": "\\udc00"}', "answer: holds half of a surrogate pair"),
        ('{"problem": "1", "answer": ' + "7" * 5000 + "}", "Exceeds the limit .* digits"),
        ('{"problem": ' + "[" * 100_000, "nested too deeply"),
        ('{"problem": ["1"]}', "problem: it should be a string"),
        ('"1 + 1"', "the line: it should be"),
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
    with pytest.raises(ProblemFileError, match="Cannot read"):
        next(read_problems(tmp_path / "x" / ("y" * 300)))
    with pytest.raises(ProblemFileError, match="Cannot read"):
        next(read_problems(Path("nul\0.jsonl")))
    with pytest.raises(ProblemFileError, match="holds no problems"):
        next(read_problems(write(tmp_path / "empty.jsonl", "", " ")))


def test_other_encodings(tmp_path):
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"problem": "\xc3\xa9"}\r\n{"problem": "1"}\r\n{"problem": "\xe9"}\r\n')
    problems = read_problems(file)
    assert [next(problems)[1].problem for _ in range(2)] == ["é", "1"]
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:3: not UTF-8: byte 0xe9 at position 14"):
        next(problems)
    file.write_text('{"problem": "1"}', "utf-16")
    with pytest.raises(ProblemFileError, match=r"p\.jsonl:1: not UTF-8"):
        next(read_problems(file))
