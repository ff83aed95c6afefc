"""The page as text: it is whole, asks for nothing, and no text of a model is ever code."""

import json
import re

import pytest

from pyro_llm.diagnostics.report.page import as_json, colour_map
from pyro_llm.errors import OutputPathError

HOSTILE = '</script><script>alert(1)</script><!-- <img src=x onerror="alert(2)"> \u2028 & \ud800 {{ 7 * 7 }}'


def test_the_page_loads_nothing(posterior):
    page = posterior.report()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)""", page)
    assert not re.search(
        r"@import|url\(|fetch\(|XMLHttpRequest|import\(|innerHTML|insertAdjacentHTML|document\.write", page
    )
    assert re.findall(r"https?://[^\"' ]*", page) == ["http://www.w3.org/2000/svg"]
    assert "default-src &#39;none&#39;" in page
    assert page.count("<script") == page.count("</script>") == 2


def test_hostile_texts_are_data(make_run):
    page = make_run(num_particles=4, num_steps=2, words=(HOSTILE,)).report()
    page.encode("utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert "<!--" not in page
    assert "\u2028" not in page
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    texts = json.loads(data)["texts"]
    assert HOSTILE.replace("\ud800", "?") in texts


def test_hostile_prompts_are_escaped(make_run):
    posterior = make_run(num_particles=4, num_steps=2)
    object.__setattr__(posterior.written, "prompt", HOSTILE)
    page = posterior.report()
    assert page.count("<script") == 2
    assert "49" not in re.search(r"<title>(.*?)</title>", page).group(1)


def test_json():
    assert as_json({"a": ["<>&\u2028", 1.23456789, None, True, 3]}) == (
        '{"a":["\\u003c\\u003e\\u0026\\u2028",1.23457,null,true,3]}'
    )
    with pytest.raises(ValueError, match="JSON"):
        as_json(float("nan"))


def test_the_colours_are_ordered_by_lightness():
    light = [sum(w * int(c[i : i + 2], 16) for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5))) for c in colour_map()]
    assert light == sorted(light)
    assert light[-1] - light[0] > 150


def test_writing(posterior, tmp_path):
    assert posterior.report(tmp_path / "run.html") == (tmp_path / "run.html").read_text("utf-8")
    with pytest.raises(OutputPathError):
        posterior.report(tmp_path / "none" / "run.html")


def test_a_page_is_not_written_over_what_is_none(posterior, tmp_path):
    posterior.save(tmp_path / "run.nc")
    before = (tmp_path / "run.nc").read_bytes()
    with pytest.raises(OutputPathError, match=r"must end in \.html"):
        posterior.report(tmp_path / "run.nc")
    assert (tmp_path / "run.nc").read_bytes() == before
