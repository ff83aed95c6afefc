"""The report as a page of HTML that needs nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import Environment, select_autoescape

from pyro_llm.diagnostics.display import shorten, title
from pyro_llm.diagnostics.report.data import report_data
from pyro_llm.errors import OutputPathError
from pyro_llm.files import written_whole
from pyro_llm.infer.posterior import Posterior

SCRIPTS = (
    "dom.js",
    "colours.js",
    "layout.js",
    "charts.js",
    "answers.js",
    "verdict.js",
    "tree.js",
    "detail.js",
    "genealogy.js",
    "main.js",
)
COLOUR_MAP, STOPS = "viridis", 33

# In a script element the parser looks for its end, and for comments; JavaScript once took U+2028 for the end of a line.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def report(posterior: Posterior, path: str | PathLike[str] | None = None) -> str:
    """The report of a posterior: one self-contained page of HTML, to open in any browser, offline too.

    It shows the answers with intervals, the genealogy of reasoning, the course of the run, its cost and settings.

    Args:
        posterior: what to report.
        path: where to write the page, whole or not at all; nowhere by default.

    Returns:
        The page.

    Raises:
        OutputPathError: the path cannot be written to, or its name does not end in .html.
    """
    if path is not None and Path(path).suffix.lower() not in (".html", ".htm"):
        raise OutputPathError(f"Cannot write the report as {str(path)!r}: it is a page, the name must end in .html.")
    page = _page(posterior)
    if path is not None:
        with written_whole(path) as temporary:
            Path(temporary).write_text(page, encoding="utf-8")
    return page


def _page(posterior: Posterior) -> str:
    data = report_data(posterior)
    style = _asset("report.css")
    script = '(() => {\n"use strict";\n' + "\n".join(map(_asset, SCRIPTS)) + "\n})();\n"
    template = Environment(autoescape=select_autoescape(default=True, default_for_string=True)).from_string(
        _asset("template.html")
    )
    return template.render(
        title=shorten(data.prompt, 80) if data.prompt else title(posterior),
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'",
        style=style,
        script=script,
        data=as_json({**asdict(data), "colours": colour_map()}),
    )


def as_json(value: Any) -> str:
    """JSON that can stand in a script element: no text in it can end that, or begin another."""
    text = json.dumps(_rounded(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character, escape in ESCAPES.items():
        text = text.replace(character, escape)
    return text.encode("utf-8", "replace").decode()  # lone surrogates are no UTF-8


def colour_map() -> list[str]:
    """Viridis from its darkest to its lightest colour: even steps, told apart by the colour-blind and in grey."""
    colours = mpl.colormaps[COLOUR_MAP]
    return [mpl.colors.to_hex(colours(stop / (STOPS - 1))) for stop in range(STOPS)]


def _rounded(value: Any) -> Any:
    """Floats with six digits, so that the page is no longer than it must be."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


def _asset(name: str) -> str:
    return files(__package__).joinpath("assets", name).read_text("utf-8")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
