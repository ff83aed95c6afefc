"""Returns of a study as tables, pictures and sliders for a notebook, in English and Japanese."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from html import escape
from typing import Any

from matplotlib.ticker import NullLocator, PercentFormatter, ScalarFormatter

from pyro_llm.diagnostics.figure import COLOURS, GREY, INK, bare, new_figure
from pyro_llm.errors import OptionError
from pyro_llm.study.bootstrap import Estimate, mean_interval
from pyro_llm.study.results import Results
from pyro_llm.study.return_pages import Live, Page, Picture, amount, interval, picture, table
from pyro_llm.study.return_words import WORDS
from pyro_llm.study.returns import Return, Terms, best_return, first_that_pays, returns

MARKERS = "osD^vP"
SIDE_BY_SIDE = 1.05
"""How far the points of one algorithm stand from those of the one before, so that intervals can be told apart."""


class ReturnViews:
    """What some algorithms of a study bring, as a notebook shows it.

    Args:
        results: of the study; its budgets are candidates (generations).
        algorithms: by the label in the study, what the algorithm is called in the view. The first is the one that
            tables of one algorithm are about.
        language: `"en"` or `"ja"`.

    Raises:
        OptionError: the study has no such algorithm, or there is no such language.
    """

    def __init__(self, results: Results, algorithms: dict[str, str], language: str = "en") -> None:
        if language not in WORDS:
            raise OptionError(f"language={language!r}: choose one of {', '.join(map(repr, WORDS))}.")
        self.words, self.names, self.results = WORDS[language], algorithms, results
        found = {curve.algorithm: curve for curve in results.of(results.variants[0], "generations")}
        if missing := [label for label in algorithms if label not in found]:
            raise OptionError(f"The study has no algorithm {missing[0]!r}; it has {', '.join(map(repr, found))}.")
        self.curves = {label: found[label] for label in algorithms}

    def accuracy(self) -> Picture:
        """The share of right answers by number of candidates, a line for each algorithm, with 95 % intervals."""
        figure = new_figure(7.5, 4)
        ax = figure.subplots()
        series = {
            label: (curve.budgets, [mean_interval(column, 0.0, 1.0) for column in curve.right.T])
            for label, curve in self.curves.items()
        }
        self._draw(ax, series, self.words["right answers"])
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        return picture(figure, self.words["right answers"])

    def value(self, terms: Terms) -> Picture:
        """The return of a question by number of candidates, with 95 % intervals."""
        figure = new_figure(7.5, 4)
        ax = figure.subplots()
        series = {
            label: ([line.budget for line in lines], [line.value for line in lines])
            for label, lines in self._lines(terms).items()
        }
        self._draw(ax, series, self.words["return"])
        ax.axhline(terms.by_hand, color=GREY, linestyle=":", linewidth=1.2)
        ax.annotate(
            self.words["by hand"], (0, terms.by_hand), (3, 3), xycoords=("axes fraction", "data"),
            textcoords="offset points", ha="left", color=INK, fontsize="small",
        )  # fmt: skip
        return picture(figure, self.words["return"])

    def table(self, terms: Terms) -> Page:
        """Of the first algorithm, by number of candidates: shares, cost, return, gain over one candidate."""
        lines = self._lines(terms)[next(iter(self.names))]
        best = best_return(lines)
        keys = ("candidates", "right", "wrong", "to a person", "tokens cost", "return", "gain")
        rows = [
            [
                f"{line.budget:g}",
                f"{line.right:.0%}",
                f"{line.wrong:.0%}",
                f"{line.withheld:.0%}",
                amount(line.cost),
                interval(line.value),
                "" if line.gain is None else interval(line.gain, sign=True),
            ]
            for line in lines
        ]
        return table([self.words[key] for key in keys], rows, [line is best for line in lines])

    def thresholds(self, terms: Terms, thresholds: Sequence[float] = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9)) -> Page:
        """Of the first algorithm at its best budget, by threshold: what goes to a person, and what that brings."""
        label = next(iter(self.names))
        found = [best_return(self._lines(replace(terms, threshold=one))[label]) for one in thresholds]
        best = max(found, key=lambda line: line.value.value)
        keys = ("threshold", "candidates", "to a person", "right among given", "return")
        rows = []
        for threshold, line in zip(thresholds, found, strict=True):
            given = line.right + line.wrong
            share = f"{line.right / given:.0%}" if given else ""
            rows.append([f"{threshold:.0%}", f"{line.budget:g}", f"{line.withheld:.0%}", share, interval(line.value)])
        return table([self.words[key] for key in keys], rows, [line is best for line in found])

    def best_budgets(self, terms: Terms, prices: Sequence[float], values: Sequence[float]) -> Page:
        """Of the first algorithm, the number of candidates with the highest return, by price and value of an answer.

        The cost of a wrong answer and of a person change in proportion to the value of a right one.
        """
        label = next(iter(self.names))
        head = [self.words["value \\ price"], *map(amount, prices)]
        rows = []
        for value in values:
            scale = value / terms.right_value
            scaled = replace(
                terms, right_value=value, wrong_cost=terms.wrong_cost * scale, person_cost=terms.person_cost * scale
            )
            cells = [best_return(self._lines(replace(scaled, price=price))[label]) for price in prices]
            rows.append([amount(value), *(f"{line.budget:g} ({amount(line.value.value)})" for line in cells)])
        return table(head, rows, [False] * len(rows))

    def verdict(self, terms: Terms) -> Page:
        """In a few sentences: the best number of candidates, what it brings, from where on it pays."""
        sentences = []
        for label, lines in self._lines(terms).items():
            best, first = best_return(lines), first_that_pays(lines)
            said = self.words["verdict"].format(
                name=self.names[label], budget=f"{best.budget:g}", value=interval(best.value), right=f"{best.right:.0%}"
            )
            pays = "never pays" if first is None else "pays from"
            sentences.append(said + self.words[pays].format(budget="" if first is None else f"{first.budget:g}"))
        sentences.append(self.words["people"].format(value=amount(terms.by_hand)))
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        return Page(f"<ul>{items}</ul>", "\n".join(sentences))

    def sliders(self, terms: Terms) -> Live:
        """Sliders for the terms, with the verdict, the return and the table under them; needs ipywidgets.

        Where no kernel is running a sentence says how to come by them.
        """
        import ipywidgets
        from IPython.display import display

        ends = {"threshold": (0.0, 1.0, 0.05), "length": (1.0, 1000.0, 1.0)}
        controls = {}
        for name, value in asdict(terms).items():
            low, high, step = ends.get(name, (0.0, 20.0, 0.1))
            controls[name] = ipywidgets.FloatSlider(
                value=value, min=low, max=max(high, value), step=step, description=self.words[name],
                continuous_update=False, style={"description_width": "22em"}, layout={"width": "44em"},
            )  # fmt: skip

        def show(**values: float) -> None:
            chosen = Terms(**values)
            for page in (self.verdict(chosen), self.value(chosen), self.table(chosen)):
                display(page)

        shown = ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(show, controls)])
        return Live(shown, self.words["live"])

    def _lines(self, terms: Terms) -> dict[str, list[Return]]:
        return {label: returns(curve, terms) for label, curve in self.curves.items()}

    def _draw(self, ax: Any, series: dict[str, tuple[list[float], list[Estimate]]], ylabel: str) -> None:
        bare(ax)
        styles = zip(series.items(), COLOURS, MARKERS, strict=False)
        for index, ((label, (budgets, points)), colour, marker) in enumerate(styles):
            places = [budget * SIDE_BY_SIDE**index for budget in budgets]
            values = [point.value for point in points]
            below = [max(point.value - point.low, 0) for point in points]
            above = [max(point.high - point.value, 0) for point in points]
            ax.errorbar(
                places, values, yerr=[below, above], color=colour, marker=marker, capsize=3, elinewidth=0.9,
                label=self.names[label],
            )  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.set_xticks(sorted({budget for budgets, _ in series.values() for budget in budgets}))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(xlabel=self.words["candidates"], ylabel=ylabel)
        ax.legend(frameon=False, fontsize="small", labelcolor=INK)
