"""The built wheel holds the package, its marker file and the embedded weights."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_the_embedded_models(tmp_path):
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    run = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    with zipfile.ZipFile(tmp_path / run.stdout.split()[-1]) as wheel:
        names = set(wheel.namelist())
        weights = [wheel.getinfo(name).file_size for name in names if name.endswith(".safetensors")]
    assert {"pyro_llm/py.typed", "pyro_llm/zoo/abacus/test.jsonl", "pyro_llm/zoo/abacus/CARD.md"} <= names
    assert {
        f"pyro_llm/diagnostics/report/assets/{file}" for file in ("template.html", "report.css", "tree.js")
    } <= names
    for kind in ("lm", "reward"):
        assert {f"pyro_llm/zoo/abacus/{kind}/{file}" for file in ("config.json", "tokenizer.json")} <= names
    assert len(weights) == 2
    assert sum(weights) <= 16e6
    assert not any(name.startswith(("tests/", "training/")) for name in names)
