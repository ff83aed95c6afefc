"""The README's program runs as it stands, and its commands exist."""

import re
from pathlib import Path

import pyro
import pytest
from matplotlib.figure import Figure
from pyro import poutine
from pyro.infer import Predictive

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def test_the_program_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    pyro.set_rng_seed(0)
    names = {}
    exec(compile(program, "README.md", "exec"), names)
    posterior = names["posterior"]
    answers = posterior.marginal(names["pyro_llm"].answer)
    assert posterior.log_evidence.shape == posterior.ess().shape == (4,)
    assert next(iter(answers)) == re.search(r'\{"(\d+)": 0\.\d+, \.\.\.\}', program).group(1)
    assert isinstance(posterior.plot(), Figure)
    loaded = type(posterior).load("run.nc")
    assert loaded.marginal(names["pyro_llm"].answer) == pytest.approx(dict(answers))
    reason, problem = names["reason"], names["problem"]
    assert "`Predictive(reason, ..., parallel=True)`" in README
    assert poutine.trace(reason).get_trace(problem).nodes["step_0"]["type"] == "sample"
    drawn = Predictive(reason, num_samples=8, parallel=True)(problem)
    assert drawn["step_0"].shape == (8, 32)
    steps = {name: value[0] for name, value in posterior.resample(8).samples.items()}
    kept = Predictive(reason, steps, parallel=True, return_sites=["_RETURN"])(problem)["_RETURN"]
    assert kept.texts.shape == (8,) and all(kept.finished)


def test_the_commands_are_targets():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", README)) - {"and"}
    assert {"demo", "test"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)
