"""Tables and pictures as a notebook shows them, also where no kernel is running."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from html import escape
from io import StringIO
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pyro_llm.study.bootstrap import Estimate


class Page:
    """HTML that notebooks show, and plain text elsewhere."""

    def __init__(self, html: str, text: str) -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text


class Picture:
    """An SVG image, and what it shows in words."""

    def __init__(self, svg: str, text: str) -> None:
        self.svg, self.text = svg, text

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return self.text


class Live:
    """A widget, and what is said where it is dead."""

    def __init__(self, widget: Any, otherwise: str) -> None:
        self.widget, self.otherwise = widget, otherwise

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {**self.widget._repr_mimebundle_(), "text/plain": self.otherwise}

    def __repr__(self) -> str:
        return self.otherwise


def picture(figure: Figure, text: str) -> Picture:
    """A figure as SVG whose letters the reader's fonts draw, so that Japanese needs no font here."""
    buffer = StringIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pyro_llm"}):
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure.savefig(buffer, format="svg", facecolor="white", metadata={"Date": None})
    return Picture(buffer.getvalue(), text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], marked: Sequence[bool]) -> Page:
    """A table, some of whose rows are set off."""
    cells = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = ""
    for row, bold in zip(rows, marked, strict=True):
        before, after = ("<td><b>", "</b></td>") if bold else ("<td>", "</td>")
        body += f"<tr>{''.join(before + escape(cell) + after for cell in row)}</tr>"
    text = "\n".join("\t".join(row) for row in [head, *rows])
    return Page(f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>", text)


def amount(dollars: float, sign: bool = False) -> str:
    """An amount of money, in as many digits as small ones need; no dollar sign, which would begin a formula.

    Example:
        >>> amount(1234.5), amount(-0.5), amount(0.0123, sign=True), amount(0.00012)
        ('1,234.50', '-0.50', '+0.012', '0.00012')
    """
    digits = 2 if abs(dollars) >= 0.1 or dollars == 0 else 3 if abs(dollars) >= 0.01 else 5
    return f"{dollars:{'+' if sign else ''},.{digits}f}"


def interval(estimate: Estimate, sign: bool = False) -> str:
    """An amount with its interval."""
    return f"{amount(estimate.value, sign)} [{amount(estimate.low, sign)}, {amount(estimate.high, sign)}]"
