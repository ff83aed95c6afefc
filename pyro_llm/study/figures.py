"""Figures inside a page, for a light and a dark one."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import matplotlib
from matplotlib.figure import Figure
from matplotlib.text import Text

DARK_INK = "#D8D8D8"


@dataclass(frozen=True)
class PageFigure:
    """A figure as data URIs.

    Attributes:
        caption: what it shows.
        light: for a light page.
        dark: for a dark one.
    """

    caption: str
    light: str
    dark: str


def page_figure(figure: Figure, caption: str) -> PageFigure:
    """A figure drawn in dark ink, and again in light ink; the figure is left in the latter."""
    light = _data_uri(figure)
    for text in figure.findobj(Text):
        text.set_color(DARK_INK)
    for ax in figure.axes:
        ax.tick_params(which="both", color=DARK_INK, labelcolor=DARK_INK)
        ax.spines[:].set_color(DARK_INK)
    return PageFigure(caption, light, _data_uri(figure))


def _data_uri(figure: Figure) -> str:
    buffer = BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "pyro_llm"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return "data:image/svg+xml;base64," + b64encode(buffer.getvalue()).decode("ascii")
