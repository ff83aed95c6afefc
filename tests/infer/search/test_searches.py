"""What all searches share: the posterior that says that it is a search, options, files, pictures."""

import math

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch

import pyro_llm
from pyro_llm.diagnostics import plot_answers, plot_ess, plot_factors, plot_tally
from pyro_llm.distributions import LLM
from pyro_llm.errors import BatchedBranchError, NonFiniteWeightError, NoScoresError, NoTextError, NoWeightsError
from pyro_llm.infer import (
    DVTS,
    SMC,
    BeamSearch,
    BestOfN,
    EntropicSMC,
    Greedy,
    OptionError,
    Posterior,
    SelfConsistency,
)
from pyro_llm.lm import TableLM
from pyro_llm.models import ReasoningSSM
from pyro_llm.rewards import FunctionReward

LM = TableLM(lambda tokens: [0.4, 0.4, 0.2], ["answer: 1\n", "answer: 2\n", "<eos>"], eos_token_id=2)


def probability(text):
    return (1 + text.count("2")) / (2 + text.count("\n"))


MODEL = ReasoningSSM(LM, FunctionReward(probability), max_steps=4, stop=None, max_tokens=1)
QUIET = {"progress": False}
SEARCHES = {
    "Greedy": Greedy(MODEL, **QUIET),
    "BestOfN": BestOfN(MODEL, 8, num_runs=2, **QUIET),
    "weighted BestOfN": BestOfN(MODEL, 8, num_runs=2, weighted=True, **QUIET),
    "SelfConsistency": SelfConsistency(MODEL, 8, num_runs=2, **QUIET),
    "probable SelfConsistency": SelfConsistency(MODEL, 8, num_runs=2, votes="probability", **QUIET),
    "normalised SelfConsistency": SelfConsistency(MODEL, 8, num_runs=2, votes="normalised", **QUIET),
    "BeamSearch": BeamSearch(MODEL, 8, num_runs=2, **QUIET),
    "DVTS": DVTS(MODEL, 8, num_runs=2, **QUIET),
    "EntropicSMC": EntropicSMC(MODEL, 8, num_runs=2, **QUIET),
}
ALL = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


@ALL
def test_a_search_has_no_weights(search):
    posterior = search.run("")
    assert posterior.is_search and posterior.settings["algorithm"] == type(search).__name__
    for ask in (
        lambda: posterior.ess(),
        lambda: posterior.log_evidence,
        lambda: posterior.log_weights,
        lambda: posterior.pooled_log_evidence(),
        lambda: posterior.pooled_log_weights,
        lambda: posterior.marginal(pyro_llm.answer),
        lambda: posterior.resample(3),
        lambda: plot_ess(posterior),
    ):
        with pytest.raises(NoWeightsError, match="decision"):
            ask()
    if posterior.searched.decides_by == "votes":
        for ask in (lambda: posterior.scores, lambda: posterior.best()):
            with pytest.raises(NoScoresError):
                ask()
    else:
        assert posterior.scores.shape == (posterior.num_runs, posterior.num_particles)
        assert posterior.scores.dtype == torch.float64
        best = posterior.best()
        assert posterior.scores[best.run, best.particle] == posterior.scores.max()
    assert posterior.decision(pyro_llm.answer) in ("1", "2")


@ALL
def test_files_tables_and_pictures(search, tmp_path):
    posterior = search.run("")
    posterior.save(tmp_path / "search.nc")
    loaded = Posterior.load(tmp_path / "search.nc")
    assert loaded.is_search and loaded.searched.decides_by == posterior.searched.decides_by
    assert loaded.decision(pyro_llm.answer) == posterior.decision(pyro_llm.answer)
    assert loaded.texts.tolist() == posterior.texts.tolist()
    if posterior.searched.scores is not None:
        assert torch.equal(loaded.scores, posterior.scores)
    np.testing.assert_array_equal(loaded.stats.ancestors, posterior.stats.ancestors)
    assert np.isnan(loaded.stats.ess).all()
    for each in (posterior, loaded):
        assert repr(each).startswith(f"Search by {type(search).__name__}")
        assert posterior.searched.decides_by in each._repr_html_()
        assert "log_weight" not in each.to_datatree()["sample_stats"]
        assert each.to_arviz() is not None
        each.plot().canvas.draw()
    assert repr(search).startswith(f"{type(search).__name__}(ReasoningSSM(")


@ALL
def test_many_problems_at_a_time(search):
    together = search.run_each(["", "x", "y"], seeds=[3, 4, 5], progress=False)
    for problem, seed, posterior in zip(["", "x", "y"], [3, 4, 5], together, strict=True):
        pyro.set_rng_seed(seed)
        alone = search.run(problem)
        assert alone.texts.tolist() == posterior.texts.tolist()
        assert alone.decision() == posterior.decision()


def test_pictures_show_what_the_decision_goes_by():
    pyro.set_rng_seed(0)
    posterior = SEARCHES["weighted BestOfN"].run("")
    ax = plot_answers(posterior)
    sums = {}
    for text, score in zip(posterior.texts.flat, posterior.scores.flatten().tolist(), strict=True):
        sums[pyro_llm.answer(text)] = sums.get(pyro_llm.answer(text), 0.0) + math.exp(score)
    assert sorted(bar.get_width() for bar in ax.patches) == pytest.approx(sorted(sums.values()))
    assert ax.get_xlabel() == "sum of scores"
    assert [bar.get_width() for bar in plot_tally(posterior).patches] == [bar.get_width() for bar in ax.patches]
    ax.figure.canvas.draw()
    bold = [label.get_text() for label in ax.get_yticklabels() if label.get_fontweight() == "bold"]
    assert bold == [posterior.decision(pyro_llm.answer)]
    (star,) = ax.lines
    assert ax.get_yticklabels()[star.get_ydata()[0]].get_text() == bold[0]
    assert [text.get_text() for text in ax.get_legend().texts] == ["decision"]
    best = plot_factors(posterior, run=1).lines[-1].get_ydata()
    np.testing.assert_array_equal(best, posterior.stats.log_factor[1].max(-1))


def test_reports_of_steps_have_no_weights(capsys):
    reports = []
    BestOfN(MODEL, 4, progress=reports.append).run("")
    assert [report.name for report in reports] == [f"accept_{t}" for t in range(len(reports))]
    assert all(report.ess.isnan().all() and report.log_evidence.isnan().all() for report in reports)
    BestOfN(MODEL, 4, progress=True).run("")
    assert "nan" not in capsys.readouterr().err


def test_a_weighted_posterior_decides_for_the_most_probable_value():
    posterior = SMC(MODEL, 64, num_runs=2, progress=False).run("")
    assert not posterior.is_search
    assert posterior.decision() == next(iter(posterior.marginal()))
    answers = posterior.marginal(pyro_llm.answer)
    assert posterior.decision(pyro_llm.answer) == next(value for value in answers if value is not None)
    assert posterior.decision(lambda text: None) is None
    with pytest.raises(NoScoresError, match="log_weights"):
        _ = posterior.scores


def test_no_answer_is_decided_for_only_if_there_is_no_other():
    def model():
        return pyro.sample("x", dist.Bernoulli(torch.tensor(0.1)))

    pyro.set_rng_seed(0)
    posterior = SelfConsistency(model, 50, **QUIET).run()
    assert posterior.decision() == 0.0
    assert posterior.decision(lambda x: 1 if x == 1 else None) == 1
    assert posterior.decision(lambda x: None) is None


def test_rewards_are_not_asked_where_they_do_not_count():
    def refuse(text):
        raise AssertionError("the reward was asked")

    model = ReasoningSSM(LM, FunctionReward(refuse), max_steps=3, stop=None, max_tokens=1)
    for search in (SelfConsistency(model, 8, **QUIET), SelfConsistency(model, 8, votes="normalised"), Greedy(model)):
        posterior = search.run("")
        assert posterior.cost.reward_calls == 0 and posterior.cost.lm_tokens_sampled > 0
        assert posterior.stats.num_steps == 0 and posterior.log_likelihood.isnan().all()


def test_a_score_of_zero_is_the_lowest_and_nobody_dies():
    def model():
        x = pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)))
        pyro.factor("y", x.log())
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
        pyro.factor("w", z.log())
        return z

    def never():
        model()
        pyro.factor("never", torch.tensor(-math.inf))

    pyro.set_rng_seed(0)
    for search in (BestOfN(model, 8), BeamSearch(model, 8), DVTS(model, 8), EntropicSMC(model, 8, max_steps=2)):
        assert search.run().decision() == 1.0
    assert BestOfN(never, 4).run().scores.isneginf().all()
    assert EntropicSMC(never, 4, max_steps=3).run().best().run == 0


def test_factors_that_are_no_numbers():
    def model():
        pyro.sample("x", dist.Bernoulli(torch.tensor(0.5)))
        pyro.factor("bad", torch.tensor(math.inf))

    with pytest.raises(NonFiniteWeightError, match="site 'bad'"):
        BestOfN(model, 4).run()


def test_programs_with_plates_masks_and_shared_factors():
    """A factor counts if any of its parts in the particle is not masked."""

    def model():
        with pyro.plate("two", 2):
            x = pyro.sample("x", dist.Normal(0.0, 1.0))
            with pyro.poutine.mask(mask=x > 0):
                pyro.sample("y", dist.Normal(x, 1.0), obs=torch.tensor(5.0))
        pyro.factor("shared", torch.tensor(-1.5))
        with pyro.poutine.mask(mask=False):
            pyro.factor("masked", torch.tensor(-2.5))

    pyro.set_rng_seed(0)
    posterior = BestOfN(model, 50, score="product", max_plate_nesting=1).run()
    x = posterior.samples["x"].double()
    expected = (dist.Normal(x, 1.0).log_prob(torch.tensor(5.0).double()) * (x > 0)).sum(-1) - 1.5
    torch.testing.assert_close(posterior.scores, expected)
    torch.testing.assert_close(posterior.log_likelihood, expected)
    assert (BestOfN(model, 50, max_plate_nesting=1).run().scores == -1.5).all()
    mean = BestOfN(model, 50, score="mean", max_plate_nesting=1).run()
    assert (mean.scores[(mean.samples["x"] < 0).all(-1)] == -1.5).all()


def test_a_program_that_branches_on_values_is_told_so():
    def model():
        if pyro.sample("x", dist.Bernoulli(torch.tensor(0.5))) > 0:
            pyro.factor("y", torch.tensor(0.0))

    with pytest.raises(BatchedBranchError):
        BestOfN(model, 4).run()


@pytest.mark.parametrize(
    "make",
    [
        lambda: BeamSearch(MODEL, 10, beam_width=4),
        lambda: DVTS(MODEL, 10, beam_width=4),
        lambda: BeamSearch(MODEL, 8, beam_width=0),
        lambda: BestOfN(MODEL, 0),
        lambda: BestOfN(MODEL, 4, score="best"),
        lambda: BestOfN("model", 4),
        lambda: BestOfN(MODEL, 4, num_runs=0),
        lambda: SelfConsistency(MODEL, 4, votes="many"),
        lambda: EntropicSMC(lambda: None, 4),
        lambda: EntropicSMC(MODEL, 4, max_steps=0),
        lambda: EntropicSMC(MODEL, 4, ess_threshold=2.0),
        lambda: EntropicSMC(MODEL, 4, early_phase=-1),
        lambda: EntropicSMC(MODEL, 4, annealing="slow"),
        lambda: EntropicSMC(MODEL, 4, resampling="optimal"),
        lambda: EntropicSMC(MODEL, 4, resampling="unknown"),
        lambda: Greedy(MODEL, max_plate_nesting=-1),
    ],
)
def test_options_that_cannot_be(make):
    with pytest.raises(OptionError):
        make()


def test_normalised_votes_need_texts():
    with pytest.raises(NoTextError):
        SelfConsistency(lambda: pyro.sample("x", dist.Normal(0.0, 1.0)), 4, votes="normalised").run()


def test_scores_are_of_the_texts():
    """Each score, recomputed from the text, its steps being its tokens."""
    pyro.set_rng_seed(0)
    scores = {}
    for score in ("last", "product", "min", "mean", "lp"):
        pyro.set_rng_seed(7)
        scores[score] = BestOfN(MODEL, 40, score=score, **QUIET).run("")
    texts = scores["last"].texts[0]
    assert len({len(text) for text in texts}) > 2
    for index, text in enumerate(texts):
        steps = text.splitlines(keepends=True)
        factors = [probability("".join(steps[: end + 1])) for end in range(len(steps))]
        if len(steps) < 4:
            factors.append(probability(text))  # the step of EOS
        prior = 0.4 ** len(steps) * (0.2 if len(steps) < 4 else 1.0)
        expected = {
            "last": factors[-1],
            "product": math.prod(factors),
            "min": min(factors),
            "mean": sum(factors) / len(factors),
            "lp": math.prod(factors) * prior,
        }
        for score, posterior in scores.items():
            assert posterior.texts[0, index] == text
            assert posterior.scores[0, index].exp().item() == pytest.approx(expected[score])


def test_votes_by_probability():
    posterior = SEARCHES["probable SelfConsistency"].run("")
    torch.testing.assert_close(posterior.scores, posterior.log_prior)
    normalised = SEARCHES["normalised SelfConsistency"].run("")
    lengths = torch.from_numpy(normalised.written.lengths)
    torch.testing.assert_close(normalised.scores, normalised.log_prior / lengths)


@pytest.mark.parametrize("unknown", ["all", "some"])
def test_votes_by_a_density_that_is_not_known(unknown):
    class Sampler(dist.Normal):
        def log_prob(self, value):
            if unknown == "all":
                raise NotImplementedError
            return super().log_prob(value).where(value < 0, math.nan)

    def model():
        return pyro.sample("x", Sampler(0.0, 1.0)) < 0

    with pytest.raises(NonFiniteWeightError, match='choose votes="equal"'):
        SelfConsistency(model, 20, votes="probability").run()
    assert SelfConsistency(model, 20).run().decision() is not None


def test_a_finished_text_is_kept_in_competition_and_not_rewritten():
    """The text that ends first has the highest score, others go on: it must be the result, as it was."""
    lm = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "<eos>"], eos_token_id=2)
    reward = FunctionReward(lambda text: 0.9 if text == "b" else 0.5 / (1 + len(text)))

    def model():
        state = lm.prompt("")
        for t in range(5):
            state = state.append(pyro.sample(f"step_{t}", LLM(lm, state, stop="b", max_tokens=1)))
            state = state.finish(torch.from_numpy(state.texts == "b"))
            pyro_llm.accept(f"accept_{t}", reward, state)
            if state.finished.all():
                break
        return state

    for search in (BeamSearch(model, 16, **QUIET), DVTS(model, 16, beam_width=2, **QUIET)):
        pyro.set_rng_seed(1)
        posterior = search.run()
        assert posterior.decision() == "b"
        best = posterior.best()
        assert posterior.scores[best.run, best.particle].exp().item() == pytest.approx(0.9)
        assert posterior.stats.num_steps > 1  # others went on
        assert (posterior.stats.log_factor[0, 1:].max(-1) == 0).all()  # and it was not judged again


def test_beams_keep_the_best_prefixes():
    """The recorded ancestors are the best by the recorded factors, as far as they differ."""
    pyro.set_rng_seed(2)
    search = BeamSearch(MODEL, 32, beam_width=8, num_runs=5, distinct=False, **QUIET)
    posterior = search.run("")
    stats = posterior.stats
    for run in range(5):
        for step in np.flatnonzero(stats.resampled[run]):
            if step == 0:
                chosen = np.unique(stats.ancestors[run, step])
                assert len(chosen) == 4
                rest = np.setdiff1d(np.arange(32), chosen)
                factors = stats.log_factor[run, step]
                assert factors[chosen].min() >= factors[rest].max()
                counts = np.unique(stats.ancestors[run, step], return_counts=True)[1]
                assert counts.tolist() == [8] * 4
