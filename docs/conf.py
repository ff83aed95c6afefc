"""How Sphinx builds the documentation: MyST pages, and an API reference from the docstrings."""

from __future__ import annotations

import re

import latex2mathml.converter
from docutils import nodes

import pyro_llm

project = "pyro_llm"
author = "The developers of pyro_llm"
copyright = "the developers of pyro_llm"
version = release = pyro_llm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown"}
suppress_warnings = ["misc.highlighting_failure"]  # `...` in an excerpt of Python

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "pyro_llm"
html_static_path: list[str] = []
html_theme_options = {"navigation_with_keys": True, "source_directory": "docs/"}

# Docstrings put code between single backticks and mathematics between dollars.
default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
python_use_unqualified_type_names = True
nitpicky = False
toc_object_entries_show_parents = "hide"

_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$\w])\$([^$\n]+(?:\n[^$\n]+)?)\$(?![\w$])")
_LINK = re.compile(r"(?<!`)\[([^\]\n]+)\]\((https?://[^)\s]+)\)")


def _to_rst(app, what, name, obj, options, lines: list[str]) -> None:
    """Translate the mathematics and links of a docstring, which are written as in Markdown."""
    text = "\n".join(lines)
    text = _DISPLAY.sub(lambda found: f"\n\n.. math:: {' '.join(found[1].split())}\n\n", text)
    text = _INLINE.sub(lambda found: f":math:`{' '.join(found[1].split())}`", text)
    text = _LINK.sub(r"`\1 <\2>`__", text)
    lines[:] = text.split("\n")


def _math(display: str):
    """Mathematics as MathML, which browsers draw themselves: no script is fetched, and pages read offline."""

    def visit(translator, node: nodes.Element) -> None:
        mathml = latex2mathml.converter.convert(node.astext(), display=display)
        translator.body.append(f'<div class="math">{mathml}</div>' if display == "block" else mathml)
        raise nodes.SkipNode

    return visit, None


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Errors have a page of their own, though they can be imported from where they are raised."""
    documented_here = app.env.docname == "reference/errors"
    is_error = isinstance(obj, type) and obj.__module__ == "pyro_llm.errors"
    return True if is_error and not documented_here else None


def setup(app) -> None:
    """Called by Sphinx."""
    app.add_node(nodes.math, override=True, html=_math("inline"))
    app.add_node(nodes.math_block, override=True, html=_math("block"))
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-docstring", _to_rst)
