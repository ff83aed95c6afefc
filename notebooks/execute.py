"""Execute the notebooks: each NAME.py, in the percent format, becomes NAME.ipynb with its outputs.

Usage: python notebooks/execute.py [NAME ...]

A notebook runs in an empty folder, beside which are the stored studies; it is written when all of it has run, so that a
failure leaves the old one. Of widgets, which live in a running kernel only, what stands for them is kept. The image of
the cell with the tag "picture" goes into the documentation, too.
"""

from __future__ import annotations

import os
import tempfile
import time
from base64 import b64decode
from pathlib import Path
from typing import Annotated

import jupytext
import nbformat
import typer
from nbclient import NotebookClient
from rich.console import Console

HERE = Path(__file__).parent
PICTURES = HERE.parent / "docs" / "images" / "notebooks"


def execute(source: Path) -> nbformat.NotebookNode:
    """The executed notebook, without what changes from one execution to the next."""
    notebook = jupytext.read(source)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "studies").symlink_to(HERE.parent / "studies")
        place = Path(folder) / "notebooks"
        place.mkdir()
        resources = {"metadata": {"path": str(place)}}
        NotebookClient(notebook, timeout=300, resources=resources).execute()
    for changing in ("language_info", "widgets"):
        notebook.metadata.pop(changing, None)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"{source.stem[:2]}-{index}"
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def keep_picture(notebook: nbformat.NotebookNode, name: str) -> None:
    """Write the image that the documentation shows of a notebook."""
    for cell in notebook.cells:
        if "picture" in cell.metadata.get("tags", ()):
            for output in cell.outputs:
                data = output.get("data", {})
                if "image/png" in data:
                    (PICTURES / f"{name}.png").write_bytes(b64decode(data["image/png"]))
                elif "image/svg+xml" in data:
                    (PICTURES / f"{name}.svg").write_text("".join(data["image/svg+xml"]), "utf-8")


def main(names: Annotated[list[str] | None, typer.Argument(help="Which; all by default.")] = None) -> None:
    """Execute notebooks and write them with their outputs."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    console = Console()
    for source in [HERE / f"{name}.py" for name in names or ()] or sorted(HERE.glob("[0-9]*.py")):
        started = time.perf_counter()
        notebook = execute(source)
        target = source.with_suffix(".ipynb")
        whole = target.with_suffix(".ipynb.new")
        nbformat.write(notebook, whole)
        whole.replace(target)
        keep_picture(notebook, source.stem)
        console.print(f"{target.name}: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    typer.run(main)
