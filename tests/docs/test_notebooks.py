"""Each notebook is its text, executed: the code of both is the same, and no cell has failed."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
SOURCES = sorted(NOTEBOOKS.glob("[0-9]*.py"))


def code_of_text(source):
    cells = re.split(r"^# %%(.*)$", source.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return [code.strip() for kind, code in zip(cells[::2], cells[1::2], strict=True) if "[markdown]" not in kind]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_the_notebook_is_its_text_executed(source):
    notebook = json.loads(source.with_suffix(".ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert ["".join(cell["source"]).strip() for cell in cells] == code_of_text(source)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
