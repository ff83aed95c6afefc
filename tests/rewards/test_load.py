"""`load_reward`: the embedded model, folders, and names that lead nowhere."""

import shutil
import subprocess
import sys

import pytest
import torch

from pyro_llm import load_lm, load_reward, zoo
from pyro_llm.errors import CalibrationFileError, ModelFolderError, OptionError, UnknownModelError
from pyro_llm.rewards import Calibrated, JudgeReward, PlattScaling


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_embedded_reward_tells_right_from_wrong():
    prm, lm = load_reward("abacus"), load_lm("abacus")
    # Its AUC on held-out steps is on its card; here only that it is on the right side by a margin.
    problems = [problem for problem in zoo.problems() if problem["steps"] <= 4][:40]
    margins = []
    for problem in problems:
        right = problem["solution"].splitlines()[0]
        left, result = right.rsplit("= ", 1)
        wrong = f"{left}= {int(result) + 137}"
        steps = [torch.tensor(lm.encode(line + "\n")) for line in (right, wrong)]
        width = max(map(len, steps))
        tokens = torch.stack([torch.nn.functional.pad(step, (0, width - len(step)), value=-1) for step in steps])
        score = prm(lm.prompt(problem["problem"]).append(tokens))
        assert score.dtype == torch.float32
        margins.append(score[0] - score[1])
    assert torch.stack(margins).mean() > 1.0


def test_the_published_folder_and_its_name_are_the_same(tmp_path):
    lm = load_lm("abacus")
    state = lm.prompt("3 + 4").append(torch.tensor(lm.encode("3 + 4 = 7\n")))
    shutil.copytree(zoo.path("abacus", "reward"), tmp_path / "copy")
    expected = load_reward("abacus")(state)
    assert load_reward(tmp_path / "copy")(state).equal(expected)
    assert load_reward(str(tmp_path / "copy"), device="cpu", dtype="float64")(state).item() == pytest.approx(
        expected.item(), abs=1e-4
    )


def test_loading_is_quiet():
    code = "import pyro_llm; pyro_llm.load_reward('abacus')"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == run.stderr == ""


@pytest.mark.parametrize("name", ["abacsu", "nobody/nothing", "no such id"])
def test_unknown_names(offline, name):
    with pytest.raises(UnknownModelError, match=rf"'{name}' is not an embedded model \(abacus\)"):
        load_reward(name)


def test_folders_without_a_reward_model(tmp_path):
    with pytest.raises(ModelFolderError, match=r"no config\.json"):
        load_reward(tmp_path)
    with pytest.raises(ModelFolderError, match="there is no folder"):
        load_reward(tmp_path / "absent")
    with pytest.raises(ModelFolderError, match=r"no format of reward models.*LlamaForCausalLM.*load_lm"):
        load_reward(zoo.path("abacus", "lm"))
    shutil.copytree(zoo.path("abacus", "reward"), tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelFolderError, match="no token classifier"):
        load_reward(tmp_path / "broken")


def test_bad_dtype():
    with pytest.raises(ValueError, match="'float13'"):
        load_reward("abacus", dtype="float13")


@pytest.mark.parametrize("name", ["http://127.0.0.1:9", "abacus"])
def test_options_that_a_reward_has_not(name):
    with pytest.raises(OptionError, match=r"no option 'agregation'; there are"):
        load_reward(name, agregation="last")


def test_a_calibration_is_loaded_with_the_reward(tmp_path):
    calibration = PlattScaling(slope=0.5, intercept=-1)
    calibration.save(tmp_path / "own.json", reward="abacus")
    calibration.save(tmp_path / "other.json", reward="another")
    lm = load_lm("abacus")
    state = lm.prompt("3 + 4").append(torch.tensor(lm.encode("3 + 4 = 7\n")))
    expected = load_reward("abacus")(state).double() * 0.5 - 1
    for given in (calibration, tmp_path / "own.json", str(tmp_path / "own.json")):
        reward = load_reward("abacus", calibration=given, aggregation="last")
        assert isinstance(reward, Calibrated)
        assert reward.reward.aggregation == "last"
        assert reward(state).equal(expected)
    with pytest.raises(CalibrationFileError, match="fitted for the reward 'another', not for 'abacus'"):
        load_reward("abacus", calibration=tmp_path / "other.json")
    remote = load_reward("http://127.0.0.1:9", calibration=calibration)
    assert remote.reward == load_reward("http://127.0.0.1:9")


@pytest.mark.parametrize(
    "options", [{"batch_size": 2.5}, {"batch_tokens": 100.0}, {"batch_size": True}, {"batch_size": 0}]
)
def test_limits_are_whole_numbers(options):
    (name,) = options
    with pytest.raises(OptionError, match=f"{name}=.*give a whole number"):
        load_reward("abacus", **options)
    with pytest.raises(OptionError, match=f"{name}=.*give a whole number"):
        JudgeReward(load_lm("abacus"), **options)
