from dataclasses import replace

import numpy as np
import pytest
import torch

from pyro_llm.diagnostics.display import label, shorten, with_error


def test_repr_says_what_matters(posterior):
    lines = repr(posterior).splitlines()
    assert lines[0] == "Posterior by SMC: 3 runs × 16 particles"
    body = "\n".join(lines[1:])
    assert str(posterior.pooled_log_evidence()) in body
    for expected in ("of 16", "resampled after", "95", "(no answer)", "step_0", "tokens sampled", "reward call"):
        assert expected in body
    assert max(map(len, lines)) <= 100


def test_repr_without_texts(numeric_posterior):
    text = repr(numeric_posterior)
    assert "answers" not in text
    assert "a/b" in text


def test_a_run_that_holds_the_evidence_is_named(posterior):
    assert "error bars" not in repr(posterior)
    for log_evidence, part in (
        ([-61.0, -50.0, -17.6], "over 99 %"),
        ([0.0, -2.0, -9.0], "88 %"),
        ([-1.0, -torch.inf, -torch.inf], "all"),
    ):
        posterior.log_evidence = torch.tensor(log_evidence, dtype=torch.float64)
        note = f"one run holds {part} of the evidence: error bars need more particles or runs"
        lines = repr(posterior).splitlines()
        assert max(map(len, lines)) <= 100
        assert note in repr(posterior)
        assert note in posterior._repr_html_()
        assert "±" not in repr(posterior)
    posterior.log_evidence[:] = -torch.inf
    assert "error bars" not in repr(posterior)


def test_a_run_that_all_others_descend_from_is_named(posterior):
    posterior.log_evidence[:] = 0.0
    islands = np.ones((3, posterior.stats.num_steps), dtype=np.int64)
    exchanged = np.arange(posterior.stats.num_steps) == 0
    posterior.stats = replace(posterior.stats, islands=islands, exchanged=exchanged)
    note = "the descendants of one run hold all of the evidence: error bars need more runs"
    assert note in repr(posterior)
    assert max(map(len, repr(posterior).splitlines())) <= 100
    islands[0] = 0
    assert "error bars" not in repr(posterior)


def test_html_is_escaped(posterior):
    posterior.texts[:] = "answer: <script>alert(1)</script> & more"
    html = posterior._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert html.count("<tr>") == html.count("</tr>") == 7


@pytest.mark.parametrize(
    ("value", "expected"), [(None, "(no answer)"), (3, "3"), ("a\n b", "a b"), ("x" * 9, "xxxx…"), ("\x07", "�")]
)
def test_labels(value, expected):
    assert label(value, 20 if value != "x" * 9 else 5) == expected


def test_numbers():
    assert with_error(0.25, float("nan")) == "0.250"
    assert with_error(0.25, 0.1234) == "0.250 ± 0.123"
    assert shorten("  a   b ") == "a b"


def test_swaps_that_were_not_tried_are_so_called():
    import pyro
    import pyro.distributions as dist

    from pyro_llm.infer import ParallelTempering

    model = lambda: pyro.sample("x", dist.Normal(0.0, 1.0))  # noqa: E731
    pyro.set_rng_seed(0)
    posterior = ParallelTempering(model, 2, 1, num_rungs=3, warmup=0, progress=False).run()
    assert np.isnan(posterior.chains.tempering.swap_rates).any()
    assert "untried" in repr(posterior) and "nan" not in repr(posterior)
