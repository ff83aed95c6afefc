"""The direction of imports, read off the syntax trees; and what the package promises to export."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pyro_llm

ROOT = Path(pyro_llm.__file__).parent
LEAVES = {
    "answers",
    "budget",
    "errors",
    "files",
    "jsonl",
    "labelled_scores",
    "prices",
    "rendezvous",
    "run_scope",
    "validation",
}
MAY_IMPORT = {
    "errors": set(),
    "prices": {"errors", "run_scope", "validation"},
    "budget": {"errors", "prices", "run_scope", "validation"},
    "run_scope": {"budget"},
    "rendezvous": set(),
    "answers": {"errors"},
    "files": {"errors"},
    "jsonl": {"errors"},
    "labelled_scores": {"errors"},
    "validation": set(),
    "zoo": LEAVES,
    "ops": LEAVES,
    "lm": LEAVES,
    "rewards": LEAVES | {"lm"},
    "distributions": LEAVES | {"lm", "rewards"},
    "handlers": LEAVES | {"ops"},
    "infer": LEAVES | {"handlers", "ops"},
    "diagnostics": LEAVES | {"infer", "ops"},
    "models": LEAVES | {"lm", "rewards", "distributions", "handlers"},
    "raters": LEAVES | {"lm", "rewards", "distributions", "ops", "infer", "diagnostics"},
    "study": LEAVES | {"lm", "rewards", "models", "ops", "infer", "diagnostics", "zoo"},
}
EXCEPTIONS = {
    "lm/load.py": {"zoo"},  # where the embedded weights are
    "rewards/load.py": {"zoo"},
    "infer/presented.py": {"diagnostics"},  # inside methods only, tested below
}
WITHOUT_PYRO = LEAVES | {"ops", "lm", "rewards", "zoo"}
WITHOUT_TRANSFORMERS = {"ops", "handlers", "infer", "diagnostics", "distributions", "models", "raters", "study"}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imports(file, top_level_only=False):
    """Absolute names of all modules that a file imports, relative imports resolved."""
    package = ["pyro_llm", *Path(file).parent.parts]
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    nodes = list(ast.walk(tree))
    if top_level_only:
        inside = {id(n) for f in nodes if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f)}
        nodes = [node for node in nodes if id(node) not in inside]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return names


def layers(names):
    """The layers of this package among module names."""
    parts = [name.split(".") for name in names]
    return {part[1] for part in parts if part[0] == "pyro_llm" and len(part) > 1}


def layer_of(file):
    return Path(file).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", [file for file in FILES if layer_of(file) not in ("__init__", "__main__", "cli")])
def test_direction_of_imports(file):
    layer = layer_of(file)
    assert layer in MAY_IMPORT, f"{file} belongs to no layer"
    allowed = MAY_IMPORT[layer] | {layer} | EXCEPTIONS.get(file, set())
    known = layers(imports(file)) & (MAY_IMPORT.keys() | {"cli"})
    assert known <= allowed, f"{file} imports {known - allowed}"
    assert "pyro_llm" not in imports(file) or layers(imports(file)), f"{file} imports the package as a whole"


@pytest.mark.parametrize("file", FILES)
def test_who_knows_pyro_and_transformers(file):
    roots = {name.split(".")[0] for name in imports(file)}
    assert not (layer_of(file) in WITHOUT_PYRO and roots & {"pyro"})
    assert not (layer_of(file) in WITHOUT_TRANSFORMERS and roots & {"transformers", "tokenizers"})


def test_the_posterior_imports_diagnostics_lazily():
    assert "diagnostics" not in layers(imports("infer/presented.py", top_level_only=True))


def test_the_walk_sees_what_it_should(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "bad.py").write_text(
        "from pyro_llm import lm\nfrom ..infer import SMC\nimport pyro_llm.models.reasoning\n"
        "def f():\n    from pyro_llm.cli import main\n"
    )
    assert layers(imports("ops/bad.py")) == {"lm", "infer", "models", "cli"}
    assert layers(imports("ops/bad.py", top_level_only=True)) == {"lm", "infer", "models"}


EXPORTS = {
    "pyro_llm": {
        "Budget",
        "Prices",
        "TextState",
        "accept",
        "answer",
        "load_lm",
        "load_reward",
        "loop",
        "observe_votes",
        "twist",
        "__version__",
    },
    "pyro_llm.distributions": {"LLM", "Acceptance", "NextToken", "token_sequence"},
    "pyro_llm.lm": {"HFLanguageModel", "LanguageModel", "TableLM", "TextState"},
    "pyro_llm.rewards": {"Ensemble", "FunctionReward", "ProcessReward", "RewardModel", "fit_calibration"},
    "pyro_llm.models": {"ReasoningSSM"},
    "pyro_llm.infer": {
        "SMC",
        "DVTS",
        "AdaptiveTempering",
        "BeamSearch",
        "BestOfN",
        "EntropicSMC",
        "Greedy",
        "Importance",
        "ParallelTempering",
        "ParticleGibbs",
        "Posterior",
        "SelfConsistency",
    },
    "pyro_llm.diagnostics": {"to_arviz", "to_datatree"},
    "pyro_llm.raters": {
        "RaterPosterior",
        "RaterPrior",
        "Ratings",
        "Votes",
        "fit_raters",
        "load_votes",
        "observe_votes",
    },
}


@pytest.mark.parametrize("module", EXPORTS)
def test_public_names(module):
    exported = importlib.import_module(module)
    assert set(exported.__all__) >= EXPORTS[module]
    assert len(set(exported.__all__)) == len(exported.__all__)
    for name in exported.__all__:
        assert getattr(exported, name) is not None
        assert name == "__version__" or getattr(exported, name).__doc__


def test_subpackages_come_with_the_package():
    for name in (
        "diagnostics",
        "distributions",
        "handlers",
        "infer",
        "lm",
        "models",
        "ops",
        "raters",
        "rewards",
        "zoo",
    ):
        assert getattr(pyro_llm, name).__name__ == f"pyro_llm.{name}"


def test_import_leaves_heavy_modules_for_later():
    heavy = "('transformers', 'arviz', 'matplotlib', 'typer', 'scipy', 'jsonschema', 'math_verify')"
    code = f"import sys, pyro_llm; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert run.stderr == ""
