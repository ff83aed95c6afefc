"""The embedded models: names, folders, sizes, cards and published problems."""

import subprocess
import sys

import pytest

from pyro_llm import zoo
from pyro_llm.errors import UnknownModelError

MEGABYTE = 1_000_000


def test_names_and_paths():
    assert "abacus" in zoo.names()
    for kind in ("lm", "reward"):
        folder = zoo.path("abacus", kind)
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
            assert (folder / name).is_file()


@pytest.mark.parametrize("call", [lambda: zoo.path("abakus"), lambda: zoo.card("gpt"), lambda: zoo.problems("gpt")])
def test_an_unknown_name_is_named_and_the_known_ones_are_listed(call):
    with pytest.raises(UnknownModelError, match="abacus"):
        call()


def test_unknown_kinds_and_splits():
    with pytest.raises(UnknownModelError, match="reward"):
        zoo.path("abacus", "critic")
    with pytest.raises(UnknownModelError, match="test"):
        zoo.problems("abacus", "train")


def test_the_weights_are_small():
    sizes = [(zoo.path("abacus", kind) / "model.safetensors").stat().st_size for kind in ("lm", "reward")]
    assert sum(sizes) <= 16 * MEGABYTE


def test_the_published_problems():
    problems = zoo.problems()
    assert len(problems) == len({p["id"] for p in problems}) == len({p["problem"] for p in problems}) == 500
    for p in problems:
        assert set(p) == {"id", "problem", "answer", "steps", "kind", "solution"}
        assert 2 <= p["steps"] <= 8 and p["steps"] == p["solution"].count("\n")
        assert p["kind"] in ("words", "expression")
        assert p["solution"].endswith(f"answer: {p['answer']}")


def test_importing_the_zoo_imports_no_torch():
    code = "import sys, importlib.util as u; s = u.spec_from_file_location('z', sys.argv[1]); m = u.module_from_spec(s)"
    code = f"{code}; sys.modules['pyro_llm'] = type(sys)('pyro_llm'); sys.modules['pyro_llm'].__path__ = [sys.argv[2]]"
    code = f"{code}; s.loader.exec_module(m); sys.exit('torch' in sys.modules)"
    source = zoo.path("abacus").parents[1] / "__init__.py"
    subprocess.run([sys.executable, "-c", code, str(source), str(source.parents[1])], check=True)


def test_the_figures_are_those_that_make_it_interesting():
    card = zoo.card("abacus")
    accuracy = {name: value["mean"] for name, value in card["lm"]["all"].items()}
    assert 0.30 <= accuracy["one_sample"] <= 0.60
    assert accuracy["any_of_64"] >= 0.95
    assert 0.85 <= card["reward"]["auc"]["all"]["monte_carlo"] <= 0.97
    assert card["reward"]["weighted_vote_of_32"]["mean"] > accuracy["majority_of_32"] + 0.05
    assert card["reward"]["failures"]["wrong_accepted"]
    assert set(card["lm"]["by_steps"]) == {str(n) for n in range(2, 9)}


def test_each_figure_has_its_command():
    card = zoo.card("abacus")
    assert all(command.startswith("python -m training.abacus") for command in card["commands"].values())
    page = (zoo.path("abacus").parent / "CARD.md").read_text("utf-8")
    assert all(command in page for name, command in card["commands"].items())
    assert f"{card['reward']['auc']['all']['monte_carlo']:.3f}" in page
