"""Programs whose plates give each particle several texts."""

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import plot_answers
from pyro_llm.distributions import LLM, accept
from pyro_llm.errors import NoTextError
from pyro_llm.infer import SMC, Posterior
from pyro_llm.lm import TableLM
from pyro_llm.rewards import FunctionReward

LM = TableLM(lambda tokens: [0.5, 0.5, 0.0] if not tokens else [0.0, 0.0, 1.0], ["answer: 1", "answer: 2", "<eos>"], 2)
REWARD = FunctionReward(lambda text: 0.9 if "1" in text else 0.1)


def write():
    state = LM.prompt("x")
    state = state.append(pyro.sample("step", LLM(LM, state, stop=None, max_tokens=2)))
    accept("accept", REWARD, state)
    return state


def run(model):
    pyro.set_rng_seed(0)
    return SMC(model, num_particles=30, num_runs=2, max_plate_nesting=1).run()


@pytest.fixture(scope="module")
def triples():
    def model():
        with pyro.plate("problems", 3):
            return write()

    return run(model)


def test_a_particle_has_a_tuple_of_texts(triples):
    assert triples.texts.shape == (2, 30, 3)
    marginal = triples.marginal()
    assert all(len(texts) == 3 and set(texts) <= {"answer: 1", "answer: 2"} for texts in marginal)
    assert sum(marginal.values()) == pytest.approx(1.0)
    first = triples.marginal(lambda texts: texts[0])
    expected = sum(
        share
        for texts, share in zip(
            triples.texts.reshape(-1, 3), triples.pooled_log_weights.exp().flatten().tolist(), strict=True
        )
        if texts[0] == "answer: 1"
    )
    assert first["answer: 1"] == pytest.approx(expected)
    best = triples.best(where=lambda texts: texts[1] == "answer: 2")
    assert best.text == best.value == ("answer: 1", "answer: 2", "answer: 1")


def test_it_shows_itself_without_answers(triples):
    assert "answers" not in repr(triples)
    assert "problems" not in triples._repr_html_()
    figure = triples.plot()
    figure.canvas.draw()
    assert [ax.get_title(loc="left").split(";")[0] for ax in figure.axes] == [
        "Effective sample size",
        "Ancestry of run 0",
    ]
    with pytest.raises(NoTextError, match="several texts"):
        plot_answers(triples)
    ax = plot_answers(triples, fn=lambda texts: texts[0])
    assert {label.get_text() for label in ax.get_yticklabels()} == {"answer: 1", "answer: 2"}


def test_it_is_converted_resampled_and_saved(triples, tmp_path):
    tree = triples.to_datatree()
    assert tree["posterior"]["answer"].shape == (2, 30, 3)
    numbers = triples.to_datatree({"letters": len})["posterior"]["letters"]
    assert numbers.shape == (2, 30, 3) and set(numbers.values.flat) == {9}
    triples.save(tmp_path / "run.nc")
    loaded = Posterior.load(tmp_path / "run.nc")
    assert loaded.texts.tolist() == triples.texts.tolist()
    assert loaded.marginal() == triples.marginal()
    draws = triples.resample(50, torch.Generator().manual_seed(0))
    assert draws.texts.shape == draws.written.lengths.shape == (1, 50, 3)
    assert set(draws.marginal()) <= set(triples.marginal())


def test_a_text_outside_the_plate_is_a_single_one():
    def model():
        with pyro.plate("coins", 3):
            pyro.sample("coin", dist.Bernoulli(0.5))
        return write()

    posterior = run(model)
    assert posterior.texts.shape == (2, 30)
    assert set(posterior.marginal()) == {"answer: 1", "answer: 2"}
    assert "answers" in repr(posterior)
