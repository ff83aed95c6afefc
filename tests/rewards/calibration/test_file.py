"""Calibrations in files: read back equal, written whole or not at all, refused for another reward."""

import json
import math
import os

import pytest
import torch
from pydantic import ValidationError

from pyro_llm.errors import CalibrationFileError, OutputPathError
from pyro_llm.lm import TableLM
from pyro_llm.rewards import (
    BetaCalibration,
    Calibrated,
    FunctionReward,
    IsotonicCalibration,
    PlattScaling,
    TemperatureScaling,
    load_calibration,
)

ALL = [
    TemperatureScaling(temperature=1 / 3),
    PlattScaling(slope=0.1 + 0.2, intercept=-1e-300),
    BetaCalibration(a=0.0, b=1.5, c=-2.0),
    IsotonicCalibration(thresholds=(-1.0, 2.0, math.inf), log_odds=(-3.0, 0.1, 0.1, 4.0)),
]


@pytest.mark.parametrize("calibration", ALL, ids=lambda calibration: calibration.method)
def test_read_back_equal(tmp_path, calibration):
    path = tmp_path / "calibration.json"
    calibration.save(path, reward="abacus")
    again = load_calibration(path, reward="abacus")
    assert again == calibration
    assert hash(again) == hash(calibration)
    assert load_calibration(path) == calibration
    json.loads(path.read_text("utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert os.listdir(tmp_path) == ["calibration.json"]

    state = TableLM(lambda tokens: [0.9, 0.1], ["a", "."], eos_token_id=1).prompt("")
    reward = FunctionReward(lambda text: 0.9)
    assert reward.calibrated(again) == reward.calibrated(calibration) == Calibrated(reward, again)
    torch.testing.assert_close(reward.calibrated(again)(state), calibration(reward(state)), rtol=0, atol=0)


def test_of_another_reward(tmp_path):
    ALL[0].save(tmp_path / "c.json", reward="abacus")
    with pytest.raises(CalibrationFileError, match=r"fitted for the reward 'abacus', not for 'other'.*calibrate"):
        load_calibration(tmp_path / "c.json", reward="other")
    ALL[0].save(tmp_path / "c.json")
    assert load_calibration(tmp_path / "c.json", reward="other") == ALL[0]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[1",
        '{"format": "pyro_llm calibration 2", "calibration": {"method": "temperature", "temperature": 1}}',
        '{"format": "pyro_llm calibration 1", "calibration": {"method": "temperature", "temperature": 0}}',
        '{"format": "pyro_llm calibration 1", "calibration": {"method": "other", "temperature": 1}}',
        '{"format": "pyro_llm calibration 1", "calibration": {"method": "platt", "slope": NaN, "intercept": 0}}',
        '{"format": "pyro_llm calibration 1", "calibration": {"method": "beta", "a": -1, "b": 1, "c": 0}}',
        '{"format": "pyro_llm calibration 1", '
        '"calibration": {"method": "isotonic", "thresholds": [0], "log_odds": [2, 1]}}',
    ],
)
def test_files_that_hold_no_calibration(tmp_path, content):
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(CalibrationFileError, match=r"c\.json' holds no calibration"):
        load_calibration(tmp_path / "c.json")


def test_paths_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(CalibrationFileError, match="Cannot read"):
        load_calibration(tmp_path / "missing.json")
    with pytest.raises(OutputPathError):
        ALL[0].save(tmp_path / "missing" / "c.json")


def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    ALL[0].save(path)
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputPathError, match="No space left"):
        ALL[1].save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["c.json"]


def test_calibrations_cannot_be_changed():
    with pytest.raises(ValidationError):
        ALL[0].temperature = 2.0
    with pytest.raises(ValidationError, match="must ascend"):
        IsotonicCalibration(thresholds=(1.0, 1.0), log_odds=(1.0, 2.0, 3.0))
    with pytest.raises(ValidationError, match="one more"):
        IsotonicCalibration(thresholds=(1.0,), log_odds=(1.0,))
