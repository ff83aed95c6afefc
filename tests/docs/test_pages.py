"""The documentation's programs run as they stand, and the commands that it names exist.

A page is one program: its Python blocks run in order, in one namespace and one empty folder. A block that needs what no
test machine has is preceded by `<!-- needs a GPU -->`; it is compiled only.
"""

import re
import shlex
from pathlib import Path

import pyro
import pytest
import typer.main

from pyro_llm.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"(<!-- needs a GPU -->\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
PROMPT = "$ "


def blocks(page, *languages):
    text = page.read_text("utf-8")
    return [(bool(gpu), code) for gpu, language, code in BLOCK.findall(text) if language in languages]


def named(pages):
    return [pytest.param(page, id=str(page.relative_to(ROOT / "docs"))) for page in pages]


@pytest.mark.parametrize("page", named(page for page in PAGES if blocks(page, "python")))
def test_the_programs_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pyro.set_rng_seed(0)
    names = {"__name__": page.stem}
    for gpu, code in blocks(page, "python"):
        program = compile(code, str(page), "exec")
        if not gpu:
            exec(program, names)


@pytest.mark.parametrize("page", named(page for page in PAGES if blocks(page, "sh")))
def test_the_commands_of_a_page_exist(page):
    for _, script in blocks(page, "sh"):
        for line in script.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix(PROMPT), comments=True)
            if words[:1] == ["make"]:
                assert {word for word in words[1:] if "=" not in word} <= TARGETS, line
            if words[:1] == ["pyro-llm"]:
                check_command(words[1:], line)


def check_command(words, line):
    commands = typer.main.get_command(app).commands
    assert words[0].startswith("--") or words[0] in commands, line
    if words[0] in commands:
        options = {name for option in commands[words[0]].params for name in (*option.opts, *option.secondary_opts)}
        assert {word.split("=")[0] for word in words[1:] if word.startswith("--")} <= options | {"--help"}, line


def test_every_block_says_what_it_is():
    fences = re.compile(r"^(`{3,})([^\n]*)\n.*?^\1[ ]*$", re.DOTALL | re.MULTILINE)
    for page in PAGES:
        for _, language in fences.findall(page.read_text("utf-8")):
            assert language, f"{page.name} has a code block without a language"
