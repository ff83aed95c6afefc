"""What is wrong with a posterior, in plain words, and what to change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap
from typing import Literal, overload

Severity = Literal["serious", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("serious", "warning", "note")
WIDTH = 100


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        name: of the illness, such as `"one-lineage"`; docs/diagnostics.md has them all.
        severity: `"serious"`: the result means nothing; `"warning"`: it may mislead; `"note"`: look whether that is
            meant.
        figure: the number by which it is known.
        threshold: what the number is held against.
        what: what is wrong.
        change: what to change.
    """

    name: str
    severity: Severity
    figure: float
    threshold: float
    what: str
    change: str

    def __str__(self) -> str:
        return f"{self.name} ({self.severity}): {self.what} {self.change}"


class Diagnosis(Sequence[Finding]):
    """The findings on a posterior, the most serious first, and all figures that were looked at.

    Attributes:
        title: what was examined.
        figures: by name. A figure is missing where it does not apply, and NaN where it cannot be told.

    Example:
        >>> diagnosis = Diagnosis("Posterior by SMC", [], {"ess": 31.2})
        >>> diagnosis
        Posterior by SMC: nothing is wrong by what was looked at
          ess  31.2
        >>> diagnosis.healthy
        True
    """

    def __init__(self, title: str, findings: Sequence[Finding], figures: Mapping[str, float]) -> None:
        self.title = title
        self.figures = dict(figures)
        self._findings = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))

    @property
    def healthy(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity == "note" for finding in self._findings)

    @property
    def names(self) -> list[str]:
        """The names of the findings."""
        return [finding.name for finding in self._findings]

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...
    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        """A finding by its position, the most serious first."""
        return self._findings[index]

    def __len__(self) -> int:
        return len(self._findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._findings)

    def __repr__(self) -> str:
        lines = [f"{self.title}: {self._verdict()}"]
        for finding in self:
            lines.append(f"  {finding.severity.upper()} {finding.name}")
            for text in (finding.what, finding.change):
                lines += [f"    {line}" for line in wrap(text, WIDTH)]
        width = max(map(len, self.figures), default=0)
        return "\n".join([*lines, *(f"  {name:<{width}}  {number(value)}" for name, value in self.figures.items())])

    def _repr_html_(self) -> str:
        findings = "".join(
            f"<li><b>{escape(finding.severity)}: {escape(finding.name)}</b><br>{escape(finding.what)}<br>"
            f"<i>{escape(finding.change)}</i></li>"
            for finding in self
        )
        rows = "".join(
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:right'>{number(value)}</td></tr>"
            for name, value in self.figures.items()
        )
        verdict = f"<p><b>{escape(self.title)}</b>: {escape(self._verdict())}</p>"
        return f"{verdict}{f'<ul>{findings}</ul>' if findings else ''}<table><tbody>{rows}</tbody></table>"

    def _verdict(self) -> str:
        if not self:
            return "nothing is wrong by what was looked at"
        counts = {severity: sum(finding.severity == severity for finding in self) for severity in SEVERITIES}
        return ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)


def number(value: float) -> str:
    """A figure in a few digits."""
    if math.isnan(value):
        return "unknown"
    return f"{value:.0f}" if math.isfinite(value) and value == round(value) else f"{value:.3g}"
