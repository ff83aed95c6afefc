"""The configurations of the studies, and their pages."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.its_hub_accuracy import compared
from pyro_llm.answers import answer
from pyro_llm.errors import StudyFolderError
from pyro_llm.study import parse_config, read_study, read_yaml, run_study
from pyro_llm.study.bootstrap import mean_interval
from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.grid import keys_of
from pyro_llm.study.models import load_study_reward
from pyro_llm.study.results import Curve
from pyro_llm.study.runner import plan
from studies.pages import STUDIES, TASKS, at_equal_accuracy, page, page_of_gemma, page_of_its_hub, what_is_lost

FOLDER = Path(__file__).parents[2] / "studies"


@pytest.mark.parametrize("name", STUDIES)
def test_configurations_can_be_run(name):
    study = plan(parse_config(read_yaml(FOLDER / f"{name}.yaml")))
    assert study.config.name == name
    assert {one.algorithm for one in study.skipped} <= {"greedy", "DVTS", "beam search", "particle Gibbs"}


@pytest.mark.parametrize("folder", sorted(path.name for path in (FOLDER / "results").iterdir()))
def test_stored_results_are_those_of_the_configurations(folder):
    """The pages say which file made them; and an option that a program gains must not make the rows another study's."""
    if folder.startswith("gemma"):
        pytest.importorskip("reasoning_gym")
    study = read_study(FOLDER / "results" / folder)
    now = plan(parse_config(read_yaml(FOLDER / f"{folder}.yaml")))
    assert study.rows and {row.key for row in study.rows} <= keys_of(now.cells, now.problems)
    assert not study.failed


def test_rows_of_changed_settings_would_be_found():
    """The keys by which stored rows are told depend on what a line of the file says."""
    raw = read_yaml(FOLDER / "accuracy.yaml")
    study = read_study(FOLDER / "results" / "accuracy")
    raw["algorithms"]["entropic filter"]["program"] = {"emission": "odds"}
    now = plan(parse_config(raw))
    keys = keys_of(now.cells, now.problems)
    strange = [row for row in study.rows if row.key not in keys]
    assert {row.algorithm for row in strange} == {"entropic filter"}


@pytest.mark.parametrize("name", ["accuracy", "wide"])
def test_the_filters_as_published_are_beside_ours(name):
    algorithms = parse_config(read_yaml(FOLDER / f"{name}.yaml")).algorithms
    published, last = algorithms["particle filter, as published"], algorithms["particle filter, highest last reward"]
    assert (published.options, published.decide, published.program) == (
        {"ess_threshold": 1.0, "resampling": "multinomial"},
        "highest last reward",
        {"emission": "odds"},
    )
    assert (last.options, last.decide, last.program) == ({}, "highest last reward", {})
    assert algorithms["particle filter"].model_dump() == {"algorithm": "SMC", "split": {}}
    assert algorithms["entropic filter, as published"].program == {"emission": "odds"}


@pytest.mark.parametrize("task", TASKS)
def test_configurations_of_the_real_model(task):
    """Each problem stands after three worked examples, and the reward accepts every one of them."""
    pytest.importorskip("reasoning_gym")
    config = parse_config(read_yaml(FOLDER / f"gemma_{task}.yaml"))
    study = plan(config)
    assert not study.skipped
    reward = load_study_reward(config.model_dump()["reward"])
    for problem in study.problems:
        *examples, asked = problem.prompt.split("Question: ")[1:]
        assert asked == f"{problem.question}\n" and len(examples) == 3
        for example in examples:
            solution = example.split("\n", 1)[1]
            assert reward.probability(solution) == 1.0 and answer(solution) is not None


def test_the_page_of_the_real_model_without_results(tmp_path):
    made = page_of_gemma(tmp_path / "none", tmp_path)
    assert made.count("None are stored yet: `make study-gemma`") == len(TASKS)


def test_the_page_of_its_hub(tmp_path):
    assert "None are stored yet: `make bench-its-hub`" in page_of_its_hub(tmp_path / "none.json")
    right = {"pyro_llm": [1.0, 1.0, 0.0, 1.0], "its-hub": [1.0, 0.0, 0.0, 1.0]}
    figures = compared(right, {"pyro_llm": 2.0, "its-hub": 6.0}, {"pyro_llm": 1.0, "its-hub": 5.0})
    (tmp_path / "figures.json").write_text(json.dumps({"problems": 4, "seed": 0, "budgets": {"16": figures}}))
    made = page_of_its_hub(tmp_path / "figures.json")
    rows = [line for line in made.splitlines() if line.startswith("| 16 ")]
    assert (
        rows[0].startswith("| 16 | pyro_llm | 0.750 [")
        and "] | 0.250 [" in rows[0]
        and rows[0].endswith("| 0.50 | 0.25 |")
    )
    assert rows[1].startswith("| 16 | its-hub | 0.500 [") and rows[1].endswith("] |  | 1.50 | 1.25 |")


def test_a_page_is_made_from_rows(tmp_path):
    without = page("accuracy", tmp_path / "none", tmp_path)
    assert "None are stored yet: `make study-accuracy`" in without
    raw = read_yaml(FOLDER / "accuracy.yaml")
    raw["algorithms"] = {name: raw["algorithms"][name] for name in ("particle filter", "greedy")}
    config = parse_config(raw | {"budgets": {"generations": [1]}, "problems": {"set": "abacus", "number": 2}})
    run_study(config, tmp_path / "rows", progress=False)
    made = page("accuracy", tmp_path / "rows", tmp_path / "images")
    assert "2 problems" in made and "| particle filter | 1 generation |" in made
    figure = tmp_path / "images" / "study_accuracy.svg"
    drawn = figure.read_text()
    assert len(drawn) > 1000
    assert page("accuracy", tmp_path / "rows", tmp_path / "images") == made and figure.read_text() == drawn
    assert "No search is among these results." in made


def test_results_that_cannot_be_read_are_not_passed_over(tmp_path):
    """A page that says that there are none would be written over the one that shows them."""
    folder = tmp_path / "rows"
    folder.mkdir()
    with pytest.raises(StudyFolderError, match="holds no study"):
        page("accuracy", folder, tmp_path)
    raw = read_yaml(FOLDER / "accuracy.yaml")
    raw["algorithms"] = {name: raw["algorithms"][name] for name in ("particle filter", "greedy")}
    config = parse_config(raw | {"budgets": {"generations": [1]}, "problems": {"set": "abacus", "number": 1}})
    run_study(config, folder, progress=False)
    rows = folder / "rows.jsonl"
    whole = rows.read_text()
    rows.write_text("sheep\n" + whole)
    with pytest.raises(StudyFolderError, match=r"rows\.jsonl:1: not a row"):
        page("accuracy", folder, tmp_path)
    rows.write_text(whole.splitlines(keepends=True)[0])  # of the one problem, one of two rows
    assert "None are complete yet: `make study-accuracy` goes on" in page("accuracy", folder, tmp_path)


def test_what_is_lost():
    """By hand, of 4 problems: A loses one of three with 16, and gains one with 64; B agrees with itself on all."""

    def curve(variant, name, *numbers):
        right = np.stack([np.arange(4) < number for number in numbers], 1).astype(float)
        costs = {kind: np.tile([4.0, 16.0, 64.0], (4, 1)) for kind in COST_KINDS}
        return Curve(variant, name, "generations", [4.0, 16.0, 64.0], right, costs, [[], [], []])

    curves = [curve("plain", "A", 1, 3, 3), curve("plain", "B", 1, 2, 3), curve("odd", "A", 1, 2, 4)]
    curves.append(curve("odd", "B", 2, 2, 3))
    problems = {variant: list("abcd") for variant in ("plain", "odd")}
    tables = SimpleNamespace(
        reference="A", reference_variant="plain", variants=["plain", "odd"], problems_of=problems,
        curves={(one.variant, one.algorithm, one.kind): one for one in curves},
    )  # fmt: skip
    rows = [line for line in what_is_lost(tables).splitlines() if line.startswith("|")]
    interval = mean_interval([0, 0, 1, 0], -1, 1)
    assert rows[0] == "| 64 generations | odd |" and len(rows) == 2 * 4
    assert rows[2] == f"| A | -0.250 [{-interval.high:+.3f}, +0.000] |"
    assert rows[3].startswith("| B | +0.000 [-0.6")  # of four that agree, little is known
    assert rows[4] == "| 16 generations | odd |"
    assert rows[6] == f"| A | +0.250 [+0.000, {interval.high:+.3f}] |"


def test_what_the_filter_needs_for_the_accuracy_of_a_search():
    """By hand: the filter is right half the time with 16 generations, the search with 64, and at its best with 4."""

    def curve(name, accuracies):
        right = np.stack([np.arange(8) < 8 * accuracy for accuracy in accuracies], 1).astype(float)
        costs = {kind: np.tile([4.0, 16.0, 64.0], (8, 1)) for kind in ("generations", "total_tokens")}
        return Curve("", name, "generations", [4.0, 16.0, 64.0], right, costs, [[], [], []])

    filtered, search = curve("particle filter", [0.25, 0.5, 0.75]), curve("beam search", [0.75, 0.625, 0.5])
    tables = SimpleNamespace(
        reference="particle filter",
        curves={("", one.algorithm, "generations"): one for one in (filtered, search)},
    )
    rows = at_equal_accuracy(tables).splitlines()[-2:]
    assert (
        rows[0].startswith("| beam search, 64 generations (at most 4 would do) | 0.500 | 16 | 4 [")
        and "] | 16 | 4 [" in rows[0]
    )
    assert rows[1].startswith("| beam search, 4 generations (its best) | 0.750 | 64 | 0.0625 [")
