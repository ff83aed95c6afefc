import matplotlib
import matplotlib.colors
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import pyro_llm
from pyro_llm.diagnostics import plot, plot_ancestry, plot_answers, plot_ess
from pyro_llm.diagnostics.figure import FAINT, INK, answer_colours
from pyro_llm.diagnostics.report import report_data
from pyro_llm.errors import NoTextError


def drawn(ax):
    """The axes, drawn: what cannot be rendered, or warns, fails here."""
    ax.figure.canvas.draw()
    return ax


def test_ess_by_step(posterior):
    ax = drawn(plot_ess(posterior, run=1))
    lines = [line for line in ax.lines if line.get_label() in ("run 1", "other runs")]
    assert [line.get_color() == INK for line in lines] == [False, True, False]
    np.testing.assert_array_equal([line.get_ydata() for line in lines], posterior.stats.ess)
    filled = [line.get_xdata().tolist() for line in ax.lines if line.get_label() == "resampled"]
    assert filled == [np.flatnonzero(row).tolist() for row in posterior.stats.resampled]
    (threshold,) = [line for line in ax.lines if line.get_label() == "threshold"]
    assert set(threshold.get_ydata()) == {0.7 * posterior.num_particles}
    assert [text.get_text() for text in ax.get_legend().texts] == ["run 1", "other runs", "resampled", "threshold"]


def test_answers_are_bars_with_error_bars(posterior):
    ax = drawn(plot_answers(posterior))
    marginal = posterior.marginal(pyro_llm.answer)
    assert [bar.get_width() for bar in ax.patches] == pytest.approx(list(marginal.values()))
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["(no answer)" if value is None else value for value in marginal]
    assert "$x_1$" in labels
    assert not any(label.get_parse_math() for label in ax.get_yticklabels())
    (errors,) = ax.collections
    ends = [tuple(segment[:, 0]) for segment in errors.get_segments()]
    assert ends == [pytest.approx(marginal.interval(value)) for value in marginal]
    shown = report_data(posterior).answers  # as the report has them
    assert ends == [pytest.approx((row.low, row.high), abs=1e-6) for row in shown]
    assert ax.get_xlabel() == "posterior probability, 95 % intervals over runs"


def test_rare_answers_share_a_bar(posterior):
    def length(text):
        return len(text)

    full = posterior.marginal(length)
    assert len(full) > 4
    ax = drawn(plot_answers(posterior, fn=length, max_answers=2))
    shown = list(full)[:2]
    assert [label.get_text() for label in ax.get_yticklabels()] == [*map(str, shown), f"{len(full) - 2} others"]
    assert sum(bar.get_width() for bar in ax.patches) == pytest.approx(1.0)
    assert matplotlib.colors.same_color(ax.patches[-1].get_facecolor(), FAINT)
    either = posterior.marginal(lambda text: length(text) in shown)
    (errors,) = ax.collections
    assert tuple(errors.get_segments()[-1][:, 0]) == pytest.approx(either.interval(False))


@pytest.mark.parametrize("text", [r"$\frac{1}{2", "$", "漢字 \U0001f600", "tab\tnew\nline \x07", "a" * 200])
def test_labels_that_would_not_render(posterior, text):
    ax = drawn(plot_answers(posterior, fn=lambda _: text))
    (label,) = [label.get_text() for label in ax.get_yticklabels()]
    assert 0 < len(label) <= 24
    assert label.isprintable()


def test_a_single_run_has_no_error_bars(make_posterior):
    ax = drawn(plot_answers(make_posterior(num_runs=1)))
    assert not ax.collections
    assert "interval" not in ax.get_xlabel()


def test_a_run_that_holds_the_evidence_is_named(posterior):
    posterior.log_evidence = torch.tensor([-61.0, -50.0, -17.6], dtype=torch.float64)
    ax = drawn(plot_answers(posterior))
    assert not ax.collections
    label = ax.get_xlabel()
    assert "one run holds over 99 % of the evidence" in label and "interval" not in label
    plot(posterior).canvas.draw()


def test_ancestry(posterior):
    run = 1
    ax = drawn(plot_ancestry(posterior, run=run))
    stats, size = posterior.stats, posterior.num_particles
    ends = [*np.flatnonzero(stats.resampled[run, :-1]), stats.num_steps - 1]
    survivors = [int(stats.unique_ancestors[run, end]) for end in ends]
    dead, alive = ax.collections
    assert len(alive.get_segments()) == sum(survivors)
    assert len(dead.get_segments()) == size * len(ends) - sum(survivors)
    assert len(ax.lines) == stats.resampled[run].sum() > 0
    assert [text.get_text() for text in ax.texts] == [str(count) for count in stats.unique_ancestors[run]]
    colours = answer_colours(posterior.marginal(pyro_llm.answer))
    last = [segment for segment in alive.get_segments() if segment[-1, 0] > stats.num_steps - 1]
    assert sorted(int(segment[-1, 1]) for segment in last) == list(range(size))
    inks = alive.get_colors()
    for segment, ink in zip(alive.get_segments(), inks, strict=True):
        if segment[-1, 0] > stats.num_steps - 1:
            answer = pyro_llm.answer(posterior.texts[run, int(segment[-1, 1])])
            assert matplotlib.colors.same_color(ink, colours[answer])
    with pytest.raises(IndexError, match="no run 3"):
        plot_ancestry(posterior, run=3)


def test_threads_join_ancestors_to_slots(posterior):
    run = 0
    ax = plot_ancestry(posterior, run=run)
    threads = [segment for collection in ax.collections for segment in collection.get_segments()]
    for step in np.flatnonzero(posterior.stats.resampled[run, :-1]):
        bends = {tuple(np.rint([t[0, 1], t[-1, 1]]).astype(int)) for t in threads if t[0, 0] == step + 0.25}
        assert bends == {(int(a), n) for n, a in enumerate(posterior.stats.ancestors[run, step])}


def test_the_figure(posterior, tmp_path):
    before = dict(matplotlib.rcParams)
    figure = plot(posterior, run=2)
    assert isinstance(figure, Figure)
    assert [ax.get_title(loc="left").split(";")[0] for ax in figure.axes] == [
        "Answers",
        "Effective sample size",
        "Ancestry of run 2",
    ]
    assert "3 runs × 16 particles" in figure.get_suptitle()
    for suffix in ("png", "svg", "pdf"):
        figure.savefig(tmp_path / f"run.{suffix}")
        assert (tmp_path / f"run.{suffix}").stat().st_size > 5000
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert dict(matplotlib.rcParams) == before
    assert posterior.plot().get_suptitle() == figure.get_suptitle()


def test_the_figure_without_texts_or_steps(numeric_posterior, posterior):
    assert len(plot(numeric_posterior).axes) == 2
    figure = posterior.resample(20).plot()
    figure.canvas.draw()
    assert sum("no observed sites" in text.get_text() for ax in figure.axes for text in ax.texts) == 2
    with pytest.raises(NoTextError):
        plot_answers(numeric_posterior)
