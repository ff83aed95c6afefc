"""What the plots share: figures without pyplot's global state, colours, labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from pyro_llm.answers import answer
from pyro_llm.diagnostics.display import NO_ANSWER, label
from pyro_llm.infer.decision import tally_of_search
from pyro_llm.infer.marginal import Marginal
from pyro_llm.infer.posterior import Posterior

# Okabe and Ito's palette, told apart by colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#9A9A9A"
FAINT = "#DDDDDD"
INK = "#333333"

MIN_PROBABILITY = 0.005
"""Of an answer that is shown by itself."""


class NotebookFigure(Figure):
    """A figure that notebooks show whether or not pyplot is in use."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that no backend manages."""
    figure = NotebookFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The given axes, or those of a new figure."""
    return new_figure(width, height).subplots() if ax is None else ax


def bare(ax: Axes) -> None:
    """Take away the frame's right and upper side."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(color=GREY, labelcolor=INK)


def say(ax: Axes, text: str) -> None:
    """Put a sentence where there is nothing to draw."""
    ax.text(0.5, 0.5, text, ha="center", va="center", color=GREY, transform=ax.transAxes)


def answer_colours(marginal: Marginal) -> dict[Any, str]:
    """A colour for each of the most probable answers, grey for none; other answers have none of their own."""
    return _colours(marginal.most_probable(len(COLOURS) + 1, MIN_PROBABILITY))


def colours_by_answer(posterior: Posterior) -> dict[Any, str]:
    """As `answer_colours`, of the answers of a posterior or the best ones of a search."""
    if posterior.is_search:
        return _colours(list(tally_of_search(posterior, answer)))
    return answer_colours(posterior.marginal(answer))


def _colours(best_first: Sequence[Any]) -> dict[Any, str]:
    return dict(zip([value for value in best_first if value is not None], COLOURS, strict=False)) | {None: GREY}


def particle_answers(posterior: Posterior) -> list[list[str | None]]:
    """Each particle's answer, `[R][N]`, each having one text."""
    distinct = {text: answer(text) for text in dict.fromkeys(posterior.texts.flat)}
    return [[distinct[text] for text in row] for row in posterior.texts]


def plot_label(value: Any, width: int = 24) -> str:
    """A label that the font in use can draw."""
    if value is None:
        return NO_ANSWER
    return "".join(character if _drawable(character) else "?" for character in label(value, width))


@cache
def _drawable(character: str) -> bool:
    return bool(get_font(findfont(FontProperties())).get_char_index(ord(character)))
