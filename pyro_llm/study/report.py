"""The report of a study: a table, figures, scaling rates, as one page of HTML and as Markdown."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from pyro_llm import __version__
from pyro_llm.errors import OptionError
from pyro_llm.files import written_whole
from pyro_llm.study.bootstrap import Estimate
from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.figures import page_figure
from pyro_llm.study.grid import skipped_in_words
from pyro_llm.study.plots import plot_study
from pyro_llm.study.results import Results
from pyro_llm.study.scaling import ScalingRate, scaling_rate
from pyro_llm.study.scaling_words import rate_in_words
from pyro_llm.study.summary import Line, summarise
from pyro_llm.study.words import counted

MAX_FAILURES = 50

Column = tuple[str, bool]
"""A heading, and whether what is under it is text."""


@dataclass(frozen=True, eq=False)
class Report:
    """What is told of a study.

    Attributes:
        results: of it.
        lines: the summary.
        rates: scaling rates of all algorithms but the reference, by variant.
        cost: the kind of budget that these compare.
    """

    results: Results
    lines: list[Line]
    rates: list[tuple[str, ScalingRate]]
    cost: str

    @property
    def title(self) -> str:
        """The name of the study, and how much of it there is."""
        return f"{self.results.study.config.name}: {self.results.extent}"

    def columns(self, with_costs: bool = True) -> list[Column]:
        """The headings of the table."""
        return [
            *([("variant", True)] if self._with_variants else []),
            ("algorithm", True),
            ("budget", False),
            ("right answers [95 %]", False),
            *[(f"less {name} [95 %]", False) for name in self._differences.values()],
            *([(name, False) for name in self._cost_columns.values()] if with_costs else []),
            ("ESS", False),
            ("failed", False),
        ]

    def cells(self, with_costs: bool = True) -> list[list[str]]:
        """The table, line by line."""
        return [
            [
                *([line.variant] if self._with_variants else []),
                line.algorithm,
                counted(line.budget, line.kind),
                str(line.accuracy),
                *["" if (one := getattr(line, kind)) is None else _signed(one) for kind in self._differences],
                *([_amount(line.costs[kind]) for kind in self._cost_columns] if with_costs else []),
                "" if line.ess is None else f"{line.ess:.1f}",
                str(line.failed or ""),
            ]
            for line in self.lines
        ]

    @property
    def notes(self) -> list[str]:
        """What the table does not say, in sentences."""
        results, stopped = self.results, sum(sum(line.stopped.values()) for line in self.lines)
        notes = list(results.gaps)
        notes += [
            f"{variant}: {rate_in_words(rate)}" if variant else rate_in_words(rate) for variant, rate in self.rates
        ]
        if stopped:
            notes.append(f"{stopped} runs ended as a budget was spent.")
        notes += skipped_in_words(results.study.skipped, results.study.config.variants)
        if failed := sum(line.failed for line in self.lines):
            notes.append(f"{failed} runs failed; they count as wrong answers.")
        return notes

    @property
    def _with_variants(self) -> bool:
        return self.results.variants != [""]

    @property
    def _differences(self) -> dict[str, str]:
        """From the fields of a line that are differences, and of which there are some, to what they are from."""
        names = {"difference": self.results.reference, "variant_difference": self.results.reference_variant}
        return {
            kind: name for kind, name in names.items() if any(getattr(line, kind) is not None for line in self.lines)
        }

    @property
    def _cost_columns(self) -> dict[str, str]:
        return {
            kind: name
            for kind, name in COST_KINDS.items()
            if any(not math.isnan(line.costs[kind]) for line in self.lines)
        }

    def markdown(self) -> str:
        """The table and the notes."""
        headings = [_markdown(name) for name, _ in self.columns()]
        rules = [":--" if is_text else "--:" for _, is_text in self.columns()]
        rows = [headings, rules, *([_markdown(cell) for cell in cells] for cells in self.cells())]
        table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
        notes = "\n".join(f"- {_markdown(note)}" for note in self.notes)
        return f"# {_markdown(self.title)}\n\n{table}\n" + (f"\n{notes}\n" if notes else "")

    def html(self) -> str:
        """One page with everything in it."""
        figures = [
            page_figure(plot_study(self.results, kind), f"Right answers by {name}")
            for kind, name in self._cost_columns.items()
        ]
        template = files("pyro_llm.study").joinpath("report.html.jinja").read_text("utf-8")
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        return environment.from_string(template).render(
            report=self,
            figures=figures,
            config=json.dumps(self.results.study.config.model_dump(mode="json"), indent=2, ensure_ascii=False),
            failures=self.results.study.failed[:MAX_FAILURES],
            version=__version__,
        )

    def write(self, folder: str | Path) -> list[Path]:
        """Write `report.html` and `report.md` into a folder; their paths.

        Raises:
            OutputPathError: they cannot be written.
        """
        paths = []
        for name, text in (("report.html", self.html()), ("report.md", self.markdown())):
            with written_whole(Path(folder) / name) as path:
                path.write_text(text, "utf-8")
            paths.append(Path(folder) / name)
        return paths


def make_report(results: Results, cost: str = "generations", at_budget: float | None = None) -> Report:
    """Everything that is told of results.

    Args:
        results: of a study.
        cost: the kind of budget that scaling rates compare.
        at_budget: scaling rates are at the accuracy that the reference has with this budget of the study; None: at the
            highest that it reaches.

    Raises:
        OptionError: there is no such kind; or the reference has no such budget.
    """
    if cost not in COST_KINDS:
        raise OptionError(f"cost={cost!r}: choose one of {', '.join(COST_KINDS)}.")
    references = {
        (variant, kind): curve for (variant, name, kind), curve in results.curves.items() if name == results.reference
    }
    if at_budget is not None:
        there = sorted({budget for curve in references.values() for budget in curve.budgets})
        references = {key: curve for key, curve in references.items() if at_budget in curve.budgets}
        if not references:
            raise OptionError(
                f"at_budget={at_budget:g}: {results.reference} has been run with the budgets "
                f"{', '.join(f'{budget:g}' for budget in there) or 'of no kind'}."
            )
    rates = []
    for (variant, algorithm, kind), curve in results.curves.items():
        reference = references.get((variant, kind))
        if reference is None or algorithm == results.reference or len(curve.budgets) == 1:
            continue
        if len(reference.budgets) > 1 or at_budget is not None:
            rates.append((variant, scaling_rate(curve, reference, cost=cost, at_budget=at_budget)))
    return Report(results, summarise(results), rates, cost)


def _signed(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"


def _amount(value: float) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _markdown(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(escaped.split())
