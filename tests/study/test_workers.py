"""Processes of a study, on the embedded models."""

import multiprocessing
import os
import signal

from pyro_llm.errors import UnknownModelError
from pyro_llm.study import load_problems
from pyro_llm.study.grid import make_grid
from pyro_llm.study.work import Task, do
from pyro_llm.study.workers import _work, rows_of


def test_processes_make_the_rows_of_one_and_what_one_that_dies_worked_on_has_failed(config):
    cells, _ = make_grid(config(program={"max_steps": 1, "max_tokens": 4}, budgets={"generations": [1]}))
    problems = tuple(load_problems({"set": "abacus", "number": 10}))
    tasks = [Task(cell, problems) for cell in cells]
    rows, made = rows_of(iter(tasks), 2), []
    while {row.algorithm for row in made} != {"PF", "IS"}:
        made.append(next(rows))
    os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
    made += list(rows)
    assert len({row.key for row in made}) == len(made) == 20  # each once
    failed = [row for row in made if row.error is not None]
    assert 0 < len(failed) < 10 and len({row.algorithm for row in failed}) == 1
    assert "ended with exit code -9" in failed[0].error
    alone = {row.key: row for task in tasks for row in do(task)}
    for row in made:
        if row.error is None:
            same = alone[row.key]
            assert (row.decision, row.log_evidence) == (same.decision, same.log_evidence)
            assert row.cost["lm_tokens_sampled"] == same.cost["lm_tokens_sampled"]
    assert multiprocessing.active_children() == []


def test_a_model_that_is_missing_is_told(config):
    cells, _ = make_grid(config(lm="abbacus"))
    ours, _ = multiprocessing.Pipe()
    assert isinstance(
        _work(Task(cells[0], tuple(load_problems({"set": "abacus", "number": 1}))), ours), UnknownModelError
    )
