"""`load_reward`: the embedded model, folders, and names that lead nowhere."""

import shutil
import subprocess
import sys

import pytest
import torch

from pyro_llm import load_lm, load_reward, zoo
from pyro_llm.errors import ModelFolderError, UnknownModelError


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
