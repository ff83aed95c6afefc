import math
from types import SimpleNamespace

import pytest

from pyro_llm.cli.batch import _done
from pyro_llm.cli.problems import Problem
from pyro_llm.cli.results import (
    Result,
    append,
    check_problem,
    check_settings,
    file_name,
    finite,
    mend_results,
    read_results,
)
from pyro_llm.errors import OutputPathError, ProblemFileError, ResultsMismatchError

RESULT = Result(id="a", problem="1 + 1", seed=3, settings={"particles": 4, "stop": "\n"}, expected="2")


def test_round_trip_with_a_dead_run(tmp_path):
    path = tmp_path / "r.jsonl"
    dead = RESULT.model_copy(
        update={
            "id": "é",
            "answers": [("2", 0.75, None), (None, 0.25, 0.1)],
            "log_evidence": finite([-1.5, -math.inf]),
            "ess": [3.5, 0.0],
        }
    )
    for result in (RESULT, dead):
        append(path, result)
    assert read_results(path) == [RESULT, dead]
    assert dead.log_evidence == [-1.5, None]


def test_results_of_others(tmp_path):
    assert read_results(tmp_path / "none.jsonl") == []
    path = tmp_path / "r.jsonl"
    append(path, RESULT)
    with path.open("a") as lines:
        lines.write('{"id": "b"}\n')
    with pytest.raises(ProblemFileError, match=r"r\.jsonl:2: not a result of pyro-llm solve: problem: it is missing"):
        read_results(path)


@pytest.mark.parametrize("cut", ["{", '{"id": "b", "problem": "\xe9'.encode("latin-1")])
def test_a_last_line_that_was_cut_off_is_dropped(tmp_path, cut):
    path = tmp_path / "r.jsonl"
    assert not mend_results(path) and not path.exists()
    append(path, RESULT)
    whole = path.read_bytes()
    assert not mend_results(path)
    path.write_bytes(whole + (cut if isinstance(cut, bytes) else cut.encode()))
    assert mend_results(path)
    assert path.read_bytes() == whole


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    path = tmp_path / "r.jsonl"
    append(path, RESULT)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert not mend_results(path)
    assert path.read_bytes() == whole


def test_unwritable_results(tmp_path):
    for use in (mend_results, lambda path: append(path, RESULT)):
        with pytest.raises(OutputPathError, match="Is a directory"):
            use(tmp_path)


def test_settings_that_differ_are_named(tmp_path):
    check_settings(tmp_path / "r.jsonl", [RESULT], dict(RESULT.settings))
    with pytest.raises(
        ResultsMismatchError, match=r"'a' in .*r\.jsonl' was made with particles=4, and .* particles=8\."
    ):
        check_settings(tmp_path / "r.jsonl", [RESULT], RESULT.settings | {"particles": 8})


@pytest.mark.parametrize(
    ("problem", "seed", "reason"),
    [
        ({"problem": "1 + 2"}, None, r"is that of another text, '1 \+ 1'"),
        ({"answer": "3"}, None, "held against the answer '2', not '3'"),
        ({}, 4, "made with another --seed"),
    ],
)
def test_problems_that_differ_are_named(tmp_path, problem, seed, reason):
    same = {"id": "a", "problem": "1 + 1", "answer": "2"}
    for former_seed in (None, 3):
        check_problem(tmp_path, RESULT, Problem(**same), former_seed)
    with pytest.raises(ResultsMismatchError, match=f"{reason}.*another --out.*remove the file"):
        check_problem(tmp_path, RESULT, Problem(**same | problem), seed)


def test_file_names():
    assert file_name("gsm8k_test-1.v2") == "gsm8k_test-1.v2.nc"
    odd = ["a/b", "a_b", "a b", "..", ".", "x" * 300, "x" * 301, "漢" * 100, "字" * 100, "../../etc", "nul\0"]
    names = [file_name(identifier) for identifier in odd]
    assert len(set(names)) == len(odd)
    assert all(name.isascii() and len(name) < 100 and "/" not in name and not name.startswith(".") for name in names)
    assert file_name("a_b") == "a_b.nc"


def test_a_result_whose_posterior_is_gone_is_done_again(tmp_path):
    settings = RESULT.settings
    with_posterior = RESULT.model_copy(update={"id": "b", "posterior": "b.nc"})
    path = tmp_path / "results.jsonl"
    for result in (RESULT, with_posterior):
        append(path, result)
    options = SimpleNamespace(settings=settings)
    assert set(_done(path, options)) == {"a"}
    (tmp_path / "b.nc").touch()
    assert set(_done(path, options)) == {"a", "b"}
