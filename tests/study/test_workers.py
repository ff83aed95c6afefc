"""Processes of a study, on the embedded models."""

import os
import signal

import pytest

from pyro_llm.errors import UnknownModelError
from pyro_llm.study import run_study
from pyro_llm.study.grid import make_grid
from pyro_llm.study.work import Task
from pyro_llm.study.workers import rows_of

SMALL = {"max_steps": 2, "max_tokens": 6}


def test_two_processes_make_the_rows_of_one_and_a_model_that_is_missing_is_told(tmp_path, config):
    study = config(program=SMALL, budgets={"generations": [2]})
    alone = run_study(study, tmp_path / "one", progress=False)
    together = run_study(study, tmp_path / "two", workers=2, progress=False)

    def facts(row):
        return row.key, row.decision, row.log_evidence, row.cost["lm_tokens_sampled"], row.error

    assert list(map(facts, alone.rows)) == list(map(facts, together.rows))
    with pytest.raises(UnknownModelError, match="abbacus"):
        run_study(config(lm="abbacus"), tmp_path / "none", workers=2, progress=False)


def test_what_a_dead_process_worked_on_has_failed(config):
    from pyro_llm.study.problems import load_problems

    cells, _ = make_grid(config(program=SMALL, budgets={"generations": [2]}))
    problems = tuple(load_problems({"set": "abacus", "number": 3}))
    rows = rows_of(iter([Task(cell, problems) for cell in cells]), 2)
    made = [next(rows)]
    # The process that made it dies; both tasks come to their end all the same.
    import multiprocessing

    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    made += list(rows)
    assert len({row.key for row in made}) == len(made) == 6
