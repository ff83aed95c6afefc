"""The pages of the documentation on the studies, from their stored results.

Usage: python -m studies.pages

Each page is what `studies/text/NAME.md` says, then the figure and the table made from `studies/results/NAME`.
"""

from __future__ import annotations

from pathlib import Path

from pyro_llm.errors import StudyFolderError
from pyro_llm.study import read_study
from pyro_llm.study.plots import plot_study
from pyro_llm.study.report import make_report
from pyro_llm.study.results import tabulate

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
STUDIES = ("accuracy", "wide", "scores", "robustness", "allocation", "ablations")


def page(name: str, results: Path, images: Path) -> str:
    """The page of a study; its figure is written into `images`.

    Args:
        name: of the study.
        results: the folder of its rows; it need not exist.
        images: the folder of figures.
    """
    text = (HERE / "text" / f"{name}.md").read_text("utf-8").rstrip()
    try:
        tables = tabulate(read_study(results))
    except StudyFolderError:
        how = f"None are stored yet: `make study-{name}` makes them, `make study-pages` this page."
        return f"{text}\n\n## Results\n\n{how}\n"
    images.mkdir(parents=True, exist_ok=True)
    plot_study(tables, "generations").savefig(images / f"study_{name}.svg", metadata={"Date": None})
    report = make_report(tables).markdown().split("\n", 1)[1].strip()
    figure = f"![Right answers by generations](images/study_{name}.svg)"
    return f"{text}\n\n## Results\n\n{len(tables.problems)} problems.\n\n{figure}\n\n{report}\n"


def main() -> None:
    """Write all pages."""
    for name in STUDIES:
        (DOCS / f"study_{name}.md").write_text(page(name, HERE / "results" / name, DOCS / "images"), "utf-8")


if __name__ == "__main__":
    main()
