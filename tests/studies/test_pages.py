"""The configurations of the four studies, and their pages."""

from pathlib import Path

import pytest

from pyro_llm.study import parse_config, read_yaml, run_study
from pyro_llm.study.runner import plan
from studies.pages import STUDIES, page

FOLDER = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("name", STUDIES)
def test_configurations_can_be_run(name):
    study = plan(parse_config(read_yaml(FOLDER / f"{name}.yaml")))
    assert study.config.name == name
    assert {one.algorithm for one in study.skipped} <= {"greedy", "DVTS", "beam search", "particle Gibbs"}


def test_a_page_is_made_from_rows(tmp_path):
    without = page("accuracy", tmp_path / "none", tmp_path)
    assert "None are stored yet: `make study-accuracy`" in without
    raw = read_yaml(FOLDER / "accuracy.yaml")
    raw["algorithms"] = {name: raw["algorithms"][name] for name in ("particle filter", "greedy")}
    config = parse_config(raw | {"budgets": {"generations": [1]}, "problems": {"set": "abacus", "number": 2}})
    run_study(config, tmp_path / "rows", progress=False)
    made = page("accuracy", tmp_path / "rows", tmp_path / "images")
    assert "2 problems" in made and "| particle filter | 1 generations |" in made
    assert (tmp_path / "images" / "study_accuracy.svg").stat().st_size > 1000
    assert page("accuracy", tmp_path / "rows", tmp_path / "images") == made
