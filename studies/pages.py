"""The pages of the documentation on the studies, from their stored results.

Usage: python -m studies.pages

Each page is what `studies/text/NAME.md` says, then the figure and the table made from `studies/results/NAME`. The page
on a real language model has three studies, that on its-hub the figures of `benchmarks/results/its_hub_accuracy.json`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import matplotlib

from pyro_llm.errors import StudyFolderError
from pyro_llm.study import read_study
from pyro_llm.study.bootstrap import Estimate
from pyro_llm.study.plots import plot_study
from pyro_llm.study.report import make_report
from pyro_llm.study.results import Results, tabulate
from pyro_llm.study.scaling import scaling_rate
from pyro_llm.study.summary import summarise

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
STUDIES = ("accuracy", "wide", "scores", "robustness", "allocation", "ablations")
SEARCHES = ("beam search", "DVTS")
TASKS = ("sums", "products", "legs")
ITS_HUB = HERE.parent / "benchmarks" / "results" / "its_hub_accuracy.json"


def text_of(name: str) -> str:
    """What a page begins with."""
    return (HERE / "text" / f"{name}.md").read_text("utf-8").rstrip()


def results_of(name: str, results: Path, images: Path) -> str:
    """The figure and the table of a study, or how to make them; the figure is written into `images`."""
    target = name.split("_")[0]
    if not results.is_dir():
        return f"None are stored yet: `make study-{target}` makes them, `make study-pages` this page."
    study = replace(read_study(results), folder=None)  # pages name no folder
    try:
        tables = tabulate(study)
    except StudyFolderError:  # no problem has been run by all combinations
        return f"None are complete yet: `make study-{target}` goes on, `make study-pages` makes this page."
    images.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "pyro_llm"}):  # the same file from the same rows
        plot_study(tables, "generations").savefig(images / f"study_{name}.svg", metadata={"Date": None})
    report = make_report(tables).markdown().split("\n", 1)[1].strip()
    figure = f"![Right answers by generations](images/study_{name}.svg)"
    number = f"{tables.extent}." if tables.is_complete else f"{tables.extent}; `make study-{target}` goes on."
    claims = [make(tables) for make, names in CLAIMS.items() if name in names]
    return "\n\n".join([number, figure, *claims, report])


def at_equal_accuracy(tables: Results) -> str:
    """What the particle filter needs for the accuracy of each search: with 64 generations, and with its best budget."""
    rows = [
        "| accuracy of | right | generations, of the filter | of the search over that [95 %] "
        "| LM and reward tokens, of the filter | of the search over that [95 %] |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    reference = tables.curves.get(("", tables.reference, "generations"))
    for curve in (tables.curves.get(("", search, "generations")) for search in SEARCHES):
        if reference is None or curve is None:
            continue
        best = curve.budgets[int(curve.accuracy.argmax())]
        for budget in dict.fromkeys((64.0, best) if 64.0 in curve.budgets else (best,)):
            rates = [
                scaling_rate(reference, curve, cost=kind, at_budget=budget) for kind in ("generations", "total_tokens")
            ]
            cells = [f"{rate.budget} | {rate}" for rate in rates]
            its = f"{curve.algorithm}, {budget:.0f} generations" + (" (its best)" if budget == best else "")
            if (least := rates[0].reference_least) is not None:
                its += f" ({least} would do)"
            rows.append(f"| {its} | {rates[0].accuracy:.3f} | {' | '.join(cells)} |")
    if len(rows) == 2:
        return "No search is among these results."
    return "**At equal accuracy**: what the particle filter needs to be right as often as a search.\n\n" + "\n".join(
        rows
    )


def what_is_lost(tables: Results) -> str:
    """How much of its accuracy each algorithm loses in each variant, paired, with the largest two budgets."""
    others = [variant for variant in tables.variants if variant != tables.reference_variant]
    lost = {
        (line.budget, line.algorithm, line.variant): line.variant_difference
        for line in summarise(tables)
        if line.variant_difference is not None
    }
    parts = [
        f"**What is lost**: right answers when {tables.reference_variant} less those in each other variant, of the "
        "same algorithm on the same problems [95 %]. Less than 0 is a gain."
    ]
    for budget in sorted({budget for budget, _, _ in lost}, reverse=True)[:2]:
        rows = [f"| {budget:.0f} generations | {' | '.join(others)} |", "| --- |" + " ---: |" * len(others)]
        for algorithm in dict.fromkeys(name for size, name, _ in lost if size == budget):
            cells = [_loss(lost.get((budget, algorithm, variant))) for variant in others]
            rows.append(f"| {algorithm} | {' | '.join(cells)} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _loss(difference: Estimate | None) -> str:
    if difference is None:
        return ""
    value, low, high = (0.0 - end for end in (difference.value, difference.high, difference.low))  # no -0
    return f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


CLAIMS: dict[Callable[[Results], str], tuple[str, ...]] = {
    at_equal_accuracy: ("accuracy", "wide"),
    what_is_lost: ("robustness",),
}
"""What else is told of some studies, before the table."""


def page(name: str, results: Path, images: Path) -> str:
    """The page of a study.

    Args:
        name: of the study.
        results: the folder of its rows; it need not exist.
        images: the folder of figures.
    """
    return f"{text_of(name)}\n\n## Results\n\n{results_of(name, results, images)}\n"


def page_of_gemma(results: Path, images: Path) -> str:
    """The page on a real language model: three tasks, the results of each in a folder of `results`."""
    tasks = []
    for task in TASKS:
        found = results_of(f"gemma_{task}", results / f"gemma_{task}", images).replace("\n## ", "\n### ")
        tasks.append(f"## Results: {task}\n\n{found}\n")
    return "\n".join([f"{text_of('gemma')}\n", *tasks])


def page_of_its_hub(figures: Path) -> str:
    """The page on its-hub, from the figures of `benchmarks.its_hub_accuracy`; they need not exist."""
    if not figures.is_file():
        table = "None are stored yet: `make bench-its-hub` makes them, `make study-pages` this page."
        return f"{text_of('its_hub')}\n\n## Results\n\n{table}\n"
    found = json.loads(figures.read_text("utf-8"))
    rows = [
        "| particles | | right [95 %] | more than its-hub, paired [95 %] | seconds a problem | of the processor |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for budget, contenders in found["budgets"].items():
        for name, one in contenders.items():
            more = "" if name == "its-hub" else str(Estimate(**one["more_than_its_hub"]))
            seconds, cpu_seconds = (f"{one[kind]:.2f}" for kind in ("seconds_a_problem", "cpu_seconds_a_problem"))
            rows.append(f"| {budget} | {name} | {Estimate(**one['right'])} | {more} | {seconds} | {cpu_seconds} |")
    about = f"{found['problems']} test problems of `abacus`; seeds {found['seed']} and up, another for each problem."
    return "\n\n".join([text_of("its_hub"), "## Results", about, "\n".join(rows)]) + "\n"


def main() -> None:
    """Write all pages."""
    results, images = HERE / "results", DOCS / "images"
    pages = {f"study_{name}": page(name, results / name, images) for name in STUDIES}
    pages |= {"study_gemma": page_of_gemma(results, images), "study_its_hub": page_of_its_hub(ITS_HUB)}
    for name, text in pages.items():
        (DOCS / f"{name}.md").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
