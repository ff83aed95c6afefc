"""A study that is killed, and called again, comes to the same rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_llm
from pyro_llm.errors import StudyFolderError, UnknownModelError
from pyro_llm.study import read_study, run_study, work
from pyro_llm.study.report import make_report
from pyro_llm.study.results import tabulate
from pyro_llm.study.rows import Row, RowFile

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(pyro_llm.__file__).parents[1])}


def told(rows):
    """Rows without their times, which no two runs share."""
    return [row.model_copy(update={"seconds": None, "cost": {**row.cost, "seconds": 0.0}}) for row in rows]


def test_killed_at_any_moment_it_comes_to_the_same_table(tmp_path):
    # 48 rows; killed by SIGKILL at five moments at least, whatever it is doing then, and now and then with the end of
    # the file cut off, as a crash of the machine would leave it.
    script = Path(__file__).with_name("killed.py")
    subprocess.run(
        [sys.executable, script, str(tmp_path), "0"],
        check=True,
        env={**os.environ, **ENVIRONMENT},
        timeout=200,
    )
    whole, killed = read_study(tmp_path / "whole"), read_study(tmp_path / "killed")
    assert len(whole.rows) == whole.size == 48
    assert told(whole.rows) == told(killed.rows)
    lines = (tmp_path / "killed" / "rows.jsonl").read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 48  # none was made twice
    tables = [[line.accuracy for line in make_report(tabulate(study)).lines] for study in (whole, killed)]
    assert tables[0] == tables[1]


@pytest.mark.usefixtures("small_models")
def test_what_is_there_is_not_run_again_and_a_torn_line_is(tmp_path, config, monkeypatch):
    made = []
    first = run_study(config(), tmp_path, limit=2, progress=made.append)
    assert len(made) == len(first.rows) == 8 and first.size == 12
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    made.clear()
    second = run_study(config(), tmp_path, progress=made.append)
    assert second.was_cut_off and len(made) == 5 and len(second.rows) == 12
    assert len([row for row in first.rows if row in second.rows]) >= 7
    made.clear()
    assert run_study(config(), tmp_path, progress=made.append).rows == second.rows
    assert made == []


@pytest.mark.usefixtures("small_models")
def test_a_folder_may_gain_but_not_change(tmp_path, config):
    before = run_study(config(), tmp_path, progress=False)
    more = run_study(
        config(seeds=[0, 1], budgets={"generations": [1, 2, 4]}, problems={"set": "abacus", "number": 4}), tmp_path,
        progress=False,
    )  # fmt: skip
    assert len(more.rows) == more.size == 2 * 3 * 2 * 4
    assert {row.key for row in before.rows} < {row.key for row in more.rows}
    with pytest.raises(StudyFolderError, match=r"holds results of another study.*What changed since is in: .*seeds"):
        run_study(config(), tmp_path, progress=False)
    with pytest.raises(StudyFolderError, match=r"program"):
        run_study(config(program={"stop": None, "max_tokens": 2, "max_steps": 1}), tmp_path, progress=False)
    assert read_study(tmp_path).rows == more.rows


class Unreliable:
    """Fails on the second problem that it is asked about, once."""

    def __init__(self, reward):
        self.reward, self.asked = reward, 0

    def __call__(self, state):
        self.asked += 1
        if self.asked == 2:
            raise MemoryError("no memory left")
        return self.reward(state)


@pytest.mark.usefixtures("small_models")
def test_a_failed_run_is_recorded_and_made_again_when_asked(tmp_path, config, monkeypatch):
    reward = Unreliable(work._reward())
    monkeypatch.setattr(work, "_reward", lambda *spec: reward)
    study = run_study(config(), tmp_path, progress=False)
    assert len(study.rows) == 12
    assert [(row.error, row.right, row.decision) for row in study.failed] == [
        ("MemoryError: no memory left", False, None)
    ]
    assert sum(line.failed for line in make_report(tabulate(study)).lines) == 1
    assert run_study(config(), tmp_path, progress=False).failed == study.failed
    again = run_study(config(), tmp_path, retry_failed=True, progress=False)
    assert again.failed == [] and len(again.rows) == 12
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 13  # what failed stays in the file
    reference = run_study(config(), tmp_path / "whole", progress=False)
    assert told(again.rows) == told(reference.rows)


@pytest.mark.usefixtures("small_models")
def test_problems_at_a_time_change_no_result(tmp_path, config):
    one = run_study(config(), tmp_path / "one", progress=False)
    three = run_study(config(concurrent=3), tmp_path / "three", progress=False)
    assert [(row.key, row.decision, row.right) for row in one.rows] == [
        (row.key, row.decision, row.right) for row in three.rows
    ]
    assert sum(row.seconds for row in three.rows) < sum(row.cost["seconds"] for row in three.rows)


def test_two_processes_do_not_write_into_one_folder(tmp_path):
    with RowFile(tmp_path).locked():
        other = RowFile(tmp_path)
        with pytest.raises(StudyFolderError, match="Another process"), other.locked():
            pass
    with RowFile(tmp_path).locked():
        pass


@pytest.mark.usefixtures("small_models")
def test_a_study_is_read_while_it_is_written(tmp_path, config):
    """By another process, which has the lock, and has written half a row."""
    made = run_study(config(), tmp_path, progress=False)
    path = tmp_path / "rows.jsonl"
    torn = path.read_bytes()[:-30]
    path.write_bytes(torn)
    with RowFile(tmp_path).locked():
        path.write_bytes(torn)
        assert read_study(tmp_path).rows == made.rows[:-1]
        assert path.read_bytes() == torn  # it is for the writer to mend
    path.write_bytes(torn + b"\n" + torn)
    with pytest.raises(StudyFolderError, match=r"rows\.jsonl:12: not a row of a study"):
        read_study(tmp_path)


@pytest.mark.usefixtures("small_models")
def test_a_study_of_a_file_is_read_from_any_directory(tmp_path, config, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    Path("my.jsonl").write_text('{"id": "a", "problem": "1 + 1?", "answer": "2"}\n')
    made = run_study(config(problems={"file": "my.jsonl"}), "out", progress=False)
    monkeypatch.chdir(tmp_path)
    read = read_study("here/out")
    assert read.rows == made.rows and len(read.rows) == 4
    assert run_study(read.config, "here/out", progress=False).rows == made.rows
    assert {cell.key(read.problems[0]) for cell in read.cells} == {row.key for row in made.rows}


def test_files_that_are_none(tmp_path, config):
    with pytest.raises(StudyFolderError, match="holds no study"):
        read_study(tmp_path)
    file = RowFile(tmp_path)
    file.append(Row(key="a", variant="", algorithm="PF", kind="generations", budget=1, seed=0, problem="p"))
    with (tmp_path / "rows.jsonl").open("a") as lines:
        lines.write('{"key": "b"}\n')
    with pytest.raises(StudyFolderError, match=r"rows\.jsonl:2: not a row of a study: variant"):
        file.read()


def test_a_model_that_is_not_there_ends_the_study(tmp_path, config):
    with pytest.raises(UnknownModelError, match="abbacus"):
        run_study(config(lm="abbacus"), tmp_path, progress=False)
    assert RowFile(tmp_path).read() == {}
