"""The mutation check (`make mutation`) is about the code as it stands."""

import ast
import runpy
from pathlib import Path

import pytest

import pyro_llm

HERE = Path(__file__).parent
PACKAGE = Path(pyro_llm.__file__).parent
MUTANTS = runpy.run_path(str(HERE / "mutants.py"))["MUTANTS"]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_replaced_exists_once_and_the_tests_exist(mutant):
    source = (PACKAGE / mutant.file).read_text("utf-8")
    assert source.count(mutant.old) == 1
    assert ast.dump(ast.parse(source.replace(mutant.old, mutant.new))) != ast.dump(ast.parse(source))
    for selection in mutant.tests:
        file, *names = selection.split("::")
        assert all(f"def {name}(" in (HERE.parents[1] / file).read_text("utf-8") for name in names)


def test_no_two_mutants_are_the_same():
    assert len({mutant.name for mutant in MUTANTS}) == len({(mutant.file, mutant.new) for mutant in MUTANTS}) == 11
