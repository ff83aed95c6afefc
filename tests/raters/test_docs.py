"""The pages on raters and on remote rewards run as written."""

import re
from pathlib import Path

import pyro
import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("page", ["raters.md", "remote_rewards.md"])
def test_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pyro.set_rng_seed(0)
    names = {"__name__": page}
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL):
        exec(compile(block, page, "exec"), names)
    assert names["posterior"].num_particles == 16
    if page == "raters.md":
        assert names["reviewed"].settings["votes"] == 1
        assert names["again"].stats.num_steps > 1
    else:
        assert names["posterior"].cost.reward_calls > 0
