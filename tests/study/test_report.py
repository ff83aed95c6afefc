import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from pyro_llm.errors import OptionError, StudyConfigError, StudyFolderError
from pyro_llm.study import make_report, plot_accuracy, run_study, tabulate
from pyro_llm.study.bootstrap import mean_interval
from pyro_llm.study.costs import COST_KINDS
from pyro_llm.study.rows import Row
from pyro_llm.study.runner import Study, plan


def made_up(config, accuracies, failed=()):
    """A study with rows in which the given shares of problems are right, by algorithm and budget."""
    study = plan(config)
    rows = []
    for cell in study.cells:
        for index, problem in enumerate(study.problems):
            right = index < accuracies[cell.algorithm][cell.budget] * len(study.problems)
            cost = {
                "generations": 1.0,
                "lm_tokens_forwarded": 30.0,
                "lm_tokens_sampled": 20.0,
                "reward_tokens": 5.0,
                "seconds": 9.0,
            }
            row = Row(
                key=cell.key(problem), variant=cell.variant, algorithm=cell.algorithm, kind=cell.kind,
                budget=cell.budget, seed=cell.seed, problem=problem.source_id, right=right, ess=cell.budget / 2,
                probability=0.5, cost={name: value * cell.budget for name, value in cost.items()}, seconds=0.5,
            )  # fmt: skip
            if (cell.algorithm, cell.budget, index) in failed:
                row = row.model_copy(update={"right": False, "cost": None, "seconds": None, "error": "<b>E</b>: no"})
            rows.append(row)
    return Study(study.config, study.cells, study.problems, study.skipped, rows)


@pytest.fixture
def study(config):
    of_ten = config(
        problems={"set": "abacus", "number": 10},
        algorithms={"<i>PF|$x$": {"algorithm": "SMC"}, "_IS": {"algorithm": "Importance"}},
    )
    accuracies = {"<i>PF|$x$": {1: 0.3, 4: 0.8}, "_IS": {1: 0.3, 4: 0.5}}
    return made_up(of_ten, accuracies, failed={("_IS", 4, 0)})


def test_the_summary_is_what_was_made_up(study):
    report = make_report(tabulate(study))
    lines = {(line.algorithm, line.budget): line for line in report.lines}
    assert {key: line.accuracy.value for key, line in lines.items()} == pytest.approx(
        {("<i>PF|$x$", 1): 0.3, ("<i>PF|$x$", 4): 0.8, ("_IS", 1): 0.3, ("_IS", 4): 0.4}
    )
    last = lines["_IS", 4]
    assert last.difference.value == pytest.approx(-0.4) and last.failed == 1
    assert lines["<i>PF|$x$", 4].difference is None
    assert np.isnan(last.costs.pop("dollars"))
    assert last.costs == {
        "generations": 4,
        "lm_tokens": 120,
        "total_tokens": 140,
        "reward_tokens": 20,
        "seconds": 0.5,
    }
    assert (last.ess, last.probability) == (2.0, 0.5)
    ((_, rate),) = report.rates
    assert rate.accuracy == pytest.approx(0.8) and rate.budget.high == np.inf


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.names, self.attributes = set(), []

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.attributes += attrs


def test_the_page_stands_alone_and_labels_are_text(study, tmp_path):
    paths = make_report(tabulate(study)).write(tmp_path)
    page, markdown = (path.read_text("utf-8") for path in paths)
    tags = Tags()
    tags.feed(page)
    assert not tags.names & {"script", "link", "i", "b", "iframe"}
    sources = [value for name, value in tags.attributes if name in ("src", "srcset", "href")]
    assert len(sources) == 2 * (len(COST_KINDS) - 1)  # light and dark; without prices there are no dollars
    assert all(value.startswith("data:image/svg+xml;base64,") for value in sources)
    assert len(set(sources)) == len(sources)
    assert '<div class="wide" tabindex="0" role="region"' in page  # a wide table moves by itself, by keys too
    assert "prefers-color-scheme: dark" in page and "&lt;i&gt;PF|$x$" in page and "&lt;b&gt;E&lt;/b&gt;: no" in page
    assert not re.search(r"url\(|@import|https?://", page)
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + 4 and len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    assert make_report(tabulate(study)).html() == page  # the same twice


def test_plots_of_every_budget_draw_what_is_in_the_table(study):
    results = tabulate(study)
    assert plot_accuracy(results, "dollars").texts[0].get_text() == "dollars were not counted"
    for cost, name in COST_KINDS.items() - {("dollars", "dollars")}:
        ax = plot_accuracy(results, cost)
        assert name in ax.get_xlabel() and len(ax.get_legend().get_texts()) == 2
        ax.figure.canvas.draw()
        box = ax.get_window_extent()
        assert ax.get_legend().get_window_extent().y1 < box.y0  # below what is drawn
        assert ax.get_legend().get_window_extent().y0 >= 0
        low, high = ax.get_xlim()
        ticks = [(label.get_text(), where) for label, where in zip(ax.get_xticklabels(), ax.get_xticks(), strict=True)]
        assert all(text == f"{where:,.10g}" for text, where in ticks if low <= where <= high)
    ax = plot_accuracy(results, "generations")
    ax.figure.canvas.draw()
    assert "4" in [label.get_text() for label in ax.get_xticklabels()]  # and not "4.0"
    line = plot_accuracy(results, "lm_tokens").containers[0].lines[0]
    assert np.allclose(line.get_xdata(), [30, 120]) and np.allclose(line.get_ydata(), [0.3, 0.8])
    for options in ({"cost": "sheep"}, {"variant": "none"}):
        with pytest.raises(OptionError, match="choose one of"):
            plot_accuracy(results, **options)
    with pytest.raises(OptionError, match="choose one of"):
        make_report(results, cost="sheep")


@pytest.mark.usefixtures("small_models")
def test_only_problems_that_all_were_run_on_count(tmp_path, config):
    study = run_study(config(), tmp_path, progress=False)
    half = Study(
        study.config, study.cells, study.problems, [], [row for row in study.rows if row.key != study.rows[0].key]
    )
    assert len(tabulate(half).problems) == 2
    report = make_report(tabulate(half))
    assert report.title == "small: 2 problems of 3"
    with pytest.raises(StudyFolderError, match=r"no problem has been run by every.* 1 row of 12: PF 1 of 6, IS 0"):
        tabulate(Study(study.config, study.cells, study.problems, [], study.rows[:1]))


@pytest.mark.usefixtures("small_models")
def test_budgets_of_other_kinds_end_runs_and_prices_make_dollars(tmp_path, config):
    algorithms = {name: {"algorithm": name, "split": {"num_particles": 50}} for name in ("SMC", "BestOfN")}
    budgets = {"lm_tokens_sampled": [30, 3000], "dollars": [1e-4]}
    prices = {"lm_output": 2.0, "hour": 1e-9}
    study = run_study(config(algorithms=algorithms, budgets=budgets, prices=prices), tmp_path, progress=False)
    assert study.failed == []
    for row in study.rows:
        if row.kind == "dollars":
            continue
        assert row.cost["lm_tokens_sampled"] <= row.budget
        assert row.stopped_by == ("lm_tokens_sampled" if row.budget == 30 else None)
    lines = make_report(tabulate(study)).lines
    stopped = {(line.algorithm, line.kind, line.budget): line.stopped for line in lines}
    assert stopped["SMC", "lm_tokens_sampled", 30] == {"lm_tokens_sampled": 3}
    assert stopped["SMC", "lm_tokens_sampled", 3000] == {} == stopped["BestOfN", "lm_tokens_sampled", 3000]
    assert stopped["SMC", "dollars", 1e-4] == {"dollars": 3}
    sampled = [line.costs["dollars"] for line in lines if line.budget == 3000]
    assert sampled == pytest.approx([2 * 150 / 1e6] * 2, rel=1e-3)  # 50 texts of 3 tokens each


@pytest.mark.usefixtures("small_models")
def test_variants_have_lines_and_axes_of_their_own(tmp_path, config):
    variants = {"cold": {}, "hot": {"program": {"temperature": 3.0}, "budgets": {"generations": [4]}}}
    study = run_study(config(variants=variants), tmp_path, progress=False)
    report = make_report(tabulate(study))
    assert [(line.variant, line.algorithm, line.budget) for line in report.lines] == [
        ("cold", "PF", 1), ("cold", "PF", 4), ("cold", "IS", 1), ("cold", "IS", 4), ("hot", "PF", 4), ("hot", "IS", 4),
    ]  # fmt: skip
    assert report.columns()[0] == ("variant", True)
    assert "cold" in report.markdown() and report.html().count("<figure>") == len(COST_KINDS) - 1


def test_variants_are_held_against_one_of_them(config):
    """By hand: of 4 problems PF has the first 3 right when cold, the first 2 when hot; IS the first, and all 4."""
    cold, hot = ({"PF": {1: one, 4: one}, "IS": {1: other, 4: other}} for one, other in ((0.75, 0.25), (0.5, 1.0)))
    variants = {"cold": {}, "hot": {"program": {"temperature": 3.0}}}
    four = config(problems={"set": "abacus", "number": 4}, variants=variants)

    whole = made_up(four, cold)
    rows = [row for row in whole.rows if row.variant == "cold"]
    rows += [row for row in made_up(four, hot).rows if row.variant == "hot"]
    study = Study(whole.config, whole.cells, whole.problems, [], rows)
    report = make_report(tabulate(study))
    lines = {(line.variant, line.algorithm): line for line in report.lines if line.budget == 4}
    assert lines["cold", "PF"].variant_difference is None is lines["cold", "IS"].variant_difference
    assert lines["hot", "PF"].variant_difference.value == pytest.approx(-0.25)
    assert lines["hot", "IS"].variant_difference == mean_interval([0, 1, 1, 1], -1, 1)
    assert lines["hot", "IS"].difference.value == pytest.approx(0.5)  # from PF, when hot
    names = [name for name, _ in report.columns()]
    column = names.index("less cold [95 %]")
    assert names[column - 1] == "less PF [95 %]" and [cells[column] for cells in report.cells()][-1].startswith(
        "+0.750"
    )
    assert "less cold [95 %]" in report.markdown() and "less cold [95\u00a0%]" in report.html()

    other_way = replace(study, config=four.model_copy(update={"reference_variant": "hot"}))
    lines = {(line.variant, line.algorithm): line for line in make_report(tabulate(other_way)).lines}
    assert lines["cold", "PF"].variant_difference.value == pytest.approx(0.25)
    assert lines["hot", "PF"].variant_difference is None

    # of the cold rows the second problem is missing, of the hot ones the third: the first and the fourth are in both
    ids = [problem.source_id for problem in study.problems]
    some = [row for row in rows if (row.variant, row.problem) not in (("cold", ids[1]), ("hot", ids[2]))]
    results = tabulate(replace(study, rows=some))
    lines = {(line.variant, line.algorithm): line for line in make_report(results).lines}
    assert lines["hot", "IS"].variant_difference == mean_interval([0, 1], -1, 1)
    assert lines["hot", "PF"].variant_difference == mean_interval([0, 0], -1, 1)


def test_no_column_of_differences_without_any(config):
    one = made_up(config(algorithms={"PF": {"algorithm": "SMC"}}), {"PF": {1: 0.3, 4: 0.8}})
    assert not [name for name, _ in make_report(tabulate(one)).columns() if name.startswith("less")]


def test_another_reference_and_the_accuracy_that_it_has_with_a_budget(config):
    """PF has 0.2 with 1 generation and 0.8 with 4, IS 0.2 and 0.5: half the way, in logarithms."""
    ten = config(problems={"set": "abacus", "number": 10})
    study = made_up(ten, {"PF": {1: 0.2, 4: 0.8}, "IS": {1: 0.2, 4: 0.5}})
    report = make_report(tabulate(study, "IS"), at_budget=4)
    ((_, rate),) = report.rates
    assert (rate.algorithm, rate.reference, rate.accuracy) == ("PF", "IS", pytest.approx(0.5))
    assert rate.budget.low == pytest.approx(2) and rate.ratio.low == pytest.approx(2)
    assert ("less IS [95 %]", False) in report.columns()
    assert make_report(tabulate(study, "IS"), at_budget=1).rates[0][1].accuracy == pytest.approx(0.2)
    with pytest.raises(OptionError, match=r"at_budget=3: IS has been run with the budgets 1, 4\."):
        make_report(tabulate(study, "IS"), at_budget=3)
    with pytest.raises(StudyConfigError, match="reference: unknown algorithm 'ISS', did you mean 'IS'"):
        tabulate(study, "ISS")


def test_a_study_is_read_variant_by_variant(config, tmp_path):
    """Of three variants one is complete, one has two problems, one lacks a combination on each problem."""
    heat = {name: {"program": {"temperature": value}} for name, value in (("cold", 0.5), ("warm", 2.0), ("hot", 3.0))}
    whole = made_up(config(variants=heat), {"PF": {1: 0.3, 4: 0.8}, "IS": {1: 0.3, 4: 0.5}})
    last = whole.problems[-1].source_id
    rows = [
        row
        for row in whole.rows
        if row.variant == "cold"
        or (row.variant == "warm" and not (row.problem == last and row.algorithm == "IS"))
        or (row.variant == "hot" and row.algorithm == "PF")
    ]
    study = Study(whole.config, whole.cells, whole.problems, [], rows, folder=tmp_path)
    results = tabulate(study)
    assert results.variants == ["cold", "warm"] and not results.is_complete
    assert {variant: len(ids) for variant, ids in results.problems_of.items()} == {"cold": 3, "warm": 2, "hot": 0}
    assert results.curves["warm", "PF", "generations"].right.shape == (2, 2)
    report = make_report(results)
    assert report.title == "small: 2 to 3 problems of 3"
    notes = " ".join(report.notes)
    assert (
        "numbers of problems: cold 3, warm 2; a difference between two variants is on the problems that both" in notes
    )
    assert "hot is left out" in notes and "(6 rows of 12: PF 6 of 6, IS 0 of 6)" in notes
    assert f"pyro-llm bench {tmp_path}/study.json --out {tmp_path}" in notes
    assert [line.variant for line in report.lines] == ["cold"] * 4 + ["warm"] * 4
    complete = tabulate(whole)
    assert complete.is_complete and complete.extent == "3 problems" and complete.gaps == []
