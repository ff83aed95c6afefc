"""What a notebook shows of returns, in two languages."""

import re
from xml.etree import ElementTree

import pytest

from pyro_llm.errors import OptionError
from pyro_llm.study import run_study, tabulate
from pyro_llm.study.return_views import ReturnViews
from pyro_llm.study.return_words import WORDS
from pyro_llm.study.returns import Terms, best_return, first_that_pays, returns
from pyro_llm.study.thinning_view import thinning

NAMES = {"PF": "this <method>", "IS": "the other"}
TERMS = Terms(right_value=3.0, wrong_cost=1.0, price=1.0, person_cost=1.5, threshold=0.3, length=1000)


@pytest.fixture
def results(small_models, config, tmp_path):
    return tabulate(run_study(config(), tmp_path, progress=False))


def cells(page):
    """The cells of a table, by row, and which rows are bold."""
    rows = re.findall(r"<tr>(.*?)</tr>", page._repr_html_())
    texts = [re.findall(r"<t[hd]>(?:<b>)?(.*?)(?:</b>)?</t[hd]>", row) for row in rows]
    return texts, ["<b>" in row for row in rows]


def test_languages_say_the_same_things():
    assert WORDS["en"].keys() == WORDS["ja"].keys()
    for name, english in WORDS["en"].items():
        assert sorted(re.findall(r"{\w+}", english)) == sorted(re.findall(r"{\w+}", WORDS["ja"][name]))


@pytest.mark.parametrize("language", WORDS)
def test_the_table_has_the_returns(results, language):
    lines = returns(results.curves["", "PF", "generations"], TERMS)
    (head, *rows), bold = cells(ReturnViews(results, NAMES, language).table(TERMS))
    assert head[0] == WORDS[language]["candidates"]
    assert [row[0] for row in rows] == ["1", "4"]
    for row, line in zip(rows, lines, strict=True):
        shares = [int(cell.removesuffix("%")) / 100 for cell in row[1:4]]
        assert shares == pytest.approx([line.right, line.wrong, line.withheld], abs=0.005)
        assert float(row[5].split()[0]) == pytest.approx(line.value.value, abs=0.005)
    assert bold == [False, *(line is best_return(lines) for line in lines)]


@pytest.mark.parametrize("language", WORDS)
def test_pictures_are_svg_with_words_as_text(results, language):
    views = ReturnViews(results, NAMES, language)
    for picture in (views.accuracy(), views.value(TERMS)):
        root = ElementTree.fromstring(picture._repr_svg_())
        said = "".join(root.itertext())
        assert WORDS[language]["candidates"] in said
        assert "this <method>" in said


def test_the_verdict_names_the_best_and_the_first_that_pays(results):
    verdict = ReturnViews(results, NAMES).verdict(TERMS)
    for label, name in NAMES.items():
        lines = returns(results.curves["", label, "generations"], TERMS)
        sentence = next(one for one in repr(verdict).splitlines() if one.startswith(name))
        assert f"highest with {best_return(lines).budget:g} candidates" in sentence
        assert ("No number of candidates" in sentence) == (first_that_pays(lines) is None)
    assert "this &lt;method&gt;" in verdict._repr_html_()


def test_thresholds_pass_more_and_more_on(results):
    (_, *rows), _ = cells(ReturnViews(results, NAMES).thresholds(TERMS, (0.0, 0.5, 1.0)))
    assert [row[0] for row in rows] == ["0%", "50%", "100%"]
    assert rows[0][2] == "0%"


def test_dear_tokens_leave_one_candidate(results):
    (_, *rows), _ = cells(ReturnViews(results, NAMES).best_budgets(TERMS, prices=[0.0, 1e6], values=[3.0]))
    [[value, _, dear]] = rows
    assert value == "3.00"
    assert dear.startswith("1 (-")


def test_sliders_say_what_they_are_where_they_are_dead(results):
    pytest.importorskip("ipywidgets")
    live = ReturnViews(results, NAMES, "ja").sliders(TERMS)
    assert live._repr_mimebundle_()["text/plain"] == WORDS["ja"]["live"] == repr(live)
    sliders = live.widget.children[:-1]
    assert [slider.value for slider in sliders] == [3.0, 1.0, 1.0, 1.5, 0.3, 1000.0]


def test_what_there_is_not(results):
    with pytest.raises(OptionError, match="no algorithm 'PG'; it has 'PF', 'IS'"):
        ReturnViews(results, {"PG": "?"})
    with pytest.raises(OptionError, match="language='fr'"):
        ReturnViews(results, NAMES, "fr")


@pytest.mark.parametrize("language", WORDS)
def test_the_life_of_candidates(language):
    picture = thinning("What is 3 + 4?", num_particles=4, language=language)
    said = "".join(ElementTree.fromstring(picture._repr_svg_()).itertext())
    assert all(WORDS[language][name] in said for name in ("lives", "step", "candidate", "tally", "probability"))
    best, share = re.match(rf"{WORDS[language]['tally']}: (\S+) (\d+)%", repr(picture)).groups()
    assert best in said
    assert 25 <= int(share) <= 100  # of four candidates the best has a quarter at least
