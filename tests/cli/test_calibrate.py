"""`pyro-llm calibrate` and `pyro-llm solve --calibration`."""

import json
import re

import numpy as np
import pyro
import pytest
from typer.testing import CliRunner

from pyro_llm import load_lm, load_reward
from pyro_llm.cli import app
from pyro_llm.cli.labels import read_labels
from pyro_llm.infer import SMC, Posterior
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import PlattScaling, load_calibration


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "160"})


def flat(text):
    return " ".join(text.split())


def write(path, *records):
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in records) + "\n", "utf-8")
    return path


@pytest.fixture
def data(tmp_path):
    """400 scores that are three times too sure."""
    rng = np.random.default_rng(0)
    true = rng.normal(scale=1.5, size=400)
    labels = rng.random(400) < 1 / (1 + np.exp(-true))
    rows = [
        {"log_odds": 3 * z, "label": int(y), "group": i // 2} for i, (z, y) in enumerate(zip(true, labels, strict=True))
    ]
    return write(tmp_path / "data.jsonl", *rows)


def test_calibrate_then_solve(tmp_path, data):
    out, plot = tmp_path / "calibration.json", tmp_path / "reliability.png"
    result = invoke("calibrate", data, "--method", "temperature", "--out", out, "--plot", plot, "--reward", "abacus")
    assert result.exit_code == 0, result.output
    calibration = load_calibration(out, "abacus")
    assert calibration.temperature == pytest.approx(3, rel=0.2)
    assert plot.read_bytes().startswith(b"\x89PNG")
    shown = flat(result.stdout)
    for expected in (
        "400 rows",
        "TemperatureScaling(temperature=",
        "before after difference",
        "Brier score",
        "5 folds",
    ):
        assert expected in shown
    before, after = map(float, re.search(r"expected calibration (?:error )?([\d.]+) ([\d.]+)", shown).groups())
    assert after < before / 2

    small = ["--particles", "4", "--runs", "1", "--max-steps", "2", "--max-tokens", "12", "--seed", "7"]
    result = invoke("solve", "What is 34 - 12?", *small, "--calibration", out, "--out", tmp_path / "run.nc")
    assert result.exit_code == 0, result.output
    posterior = Posterior.load(tmp_path / "run.nc")
    written = {"method": "temperature", "temperature": calibration.temperature}
    assert posterior.settings["command"]["calibration"] == written
    model = ReasoningSSM(load_lm("abacus"), load_reward("abacus").calibrated(calibration), max_steps=2, max_tokens=12)
    pyro.set_rng_seed(7)
    same = SMC(model, num_particles=4, num_runs=1, progress=False).run("What is 34 - 12?")
    assert posterior.log_evidence.item() == pytest.approx(same.log_evidence.item(), rel=1e-6)


def test_a_calibration_of_another_reward_is_refused(tmp_path):
    PlattScaling(slope=1, intercept=0).save(tmp_path / "c.json", reward="other")
    result = invoke("solve", "What is 1 + 1?", "--calibration", tmp_path / "c.json")
    assert result.exit_code == 2
    assert "fitted for the reward 'other', not for 'abacus'" in flat(result.output)
    result = invoke("solve", "What is 1 + 1?", "--calibration", tmp_path / "missing.json")
    assert result.exit_code == 2
    assert "Cannot read the calibration" in flat(result.output)


GOOD = {"score": 0.3, "label": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "data.jsonl:2: not JSON"),
        ({"score": 1.2, "label": 1}, "data.jsonl:2: score"),
        ({"score": "0.5", "label": 1}, "data.jsonl:2: score: must be a number"),
        ({"log_odds": True, "label": 1}, "data.jsonl:2: log_odds"),
        ('{"log_odds": Infinity, "label": 1}', "data.jsonl:2: log_odds"),
        ({"score": 0.2, "log_odds": 1.0, "label": 1}, 'data.jsonl:2: the line: give either "score"'),
        ({"label": 1}, 'give either "score"'),
        ({"score": 0.2}, "data.jsonl:2: label: it is missing"),
        ({"score": 0.2, "label": 0.5}, "data.jsonl:2: label: must be 0, 1"),
        ({"score": 0.2, "label": "1"}, "data.jsonl:2: label"),
        ({"score": 1, "label": 1}, "data.jsonl:2: the score is exactly 1"),
        ([1], "data.jsonl:2: the line"),
    ],
)
def test_bad_lines_are_named(tmp_path, line, message):
    result = invoke("calibrate", write(tmp_path / "data.jsonl", GOOD, line))
    assert result.exit_code == 2
    assert message in flat(result.output)


def test_what_cannot_be_calibrated(tmp_path, data):
    for rows, message in [
        ([GOOD] * 9, "9 labels, all of them 1"),
        ([""], "holds no scores"),
        ([{"score": 0.3, "label": 0}, GOOD, GOOD], "3 rows or groups for 5 folds"),
        ([{"score": 0.3, "label": 0}, *[GOOD] * 9], "there is no fit: There are 8 labels, all of them 1"),
    ]:
        result = invoke("calibrate", write(tmp_path / "some.jsonl", *rows))
        assert result.exit_code == 2
        assert message in flat(result.output)
    assert "there is no folder" in flat(invoke("calibrate", data, "--out", tmp_path / "no" / "c.json").output)
    assert "must end in" in flat(invoke("calibrate", data, "--plot", tmp_path / "plot.txt").output)
    assert "Cannot read" in flat(invoke("calibrate", tmp_path / "missing.jsonl").output)


def test_certain_scores_by_isotonic(tmp_path):
    rows = [{"score": float(i % 2), "label": int(i % 5 > 1) if i % 2 else int(i % 5 > 3)} for i in range(100)]
    result = invoke(
        "calibrate", write(tmp_path / "data.jsonl", *rows), "--method", "isotonic", "--out", tmp_path / "c.json"
    )
    assert result.exit_code == 0, result.output
    assert load_calibration(tmp_path / "c.json").thresholds == (float("inf"),)


def test_reading(tmp_path):
    rows = [
        {"score": 0.5, "label": True, "group": 7},
        {"log_odds": -2, "label": 0},
        {"score": 0.5, "label": 1, "group": "7"},
    ]
    scores = read_labels(write(tmp_path / "data.jsonl", *rows), allow_certain=False)
    assert scores.log_odds.tolist() == [0, -2, 0]
    assert scores.labels.tolist() == [1, 0, 1]
    assert scores.groups.tolist() == [0, 1, 0]
