"""Programs whose plates give each particle several texts."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import plot_answers
from pyro_llm.distributions import LLM, Acceptance, accept
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


SHORT = TableLM(lambda tokens: [0.5, 0.3, 0.2], ["a", "b", "."], eos_token_id=2)
FAVOURS_A = FunctionReward(lambda text: 0.1 + 0.8 * text.count("a") / (1 + len(text)))


def three_in_one_event():
    state = SHORT.prompt("x").expand((3,))
    state = state.append(pyro.sample("texts", LLM(SHORT, state, max_tokens=2).to_event(1)))
    pyro.sample("accept", Acceptance(FAVOURS_A, state).to_event(1), obs=torch.ones(3))
    pyro.sample("after", dist.Normal(0.0, 1.0))  # asks for resampling
    return state


def exact():
    """The log-probability of acceptance, and the posterior of one text."""
    joint: dict[str, float] = {}
    for tokens, log_prob in SHORT.enumerate(2):
        text = SHORT.decode(tokens)
        joint[text] = joint.get(text, 0.0) + math.exp(log_prob) * (0.1 + 0.8 * text.count("a") / (1 + len(text)))
    total = sum(joint.values())
    return math.log(total), {text: mass / total for text, mass in joint.items()}


@pytest.mark.parametrize("options", [{}, {"max_plate_nesting": 1}, {"particles": "scalar"}])
@pytest.mark.parametrize("num_particles", [3, 20])
def test_several_texts_in_one_event(num_particles, options):
    """The evidence is the cube of one text's, texts are distributed as one; N may be the size of the event.

    Null: the mean of the evidence, and each share, are exact. z < 4.5 in 600 runs: false alarms below 1e-4 in all.
    """
    pyro.set_rng_seed(0)
    num_runs = 100 if options.get("particles") else 600
    smc = SMC(three_in_one_event, num_particles, num_runs=num_runs, ess_threshold=1.0, progress=False, **options)
    posterior = smc.run()
    log_evidence, shares = exact()
    evidence = posterior.log_evidence.exp()
    error = float(evidence.std()) / num_runs**0.5
    assert abs(float(evidence.mean()) - math.exp(3 * log_evidence)) < 4.5 * error
    assert posterior.texts.reshape(num_runs, num_particles, -1).shape == (num_runs, num_particles, 3)
    drawn = posterior.samples["texts"].reshape(-1, 2).tolist()
    decoded = [SHORT.decode([token for token in row if token >= 0]) for row in drawn]
    assert decoded == posterior.texts.flatten().tolist(), "what is returned is what was drawn"
    for place in range(3):
        # Unnormalised: the evidence of a run times its share of a text is unbiased for both together.
        weights = (posterior.log_weights + posterior.log_evidence[:, None]).exp().numpy()
        texts = posterior.texts.reshape(num_runs, num_particles, 3)[:, :, place]
        for text, share in shares.items():
            if share < 0.1:
                continue  # too rare for the normal law in the fewest runs
            mass = (weights * (texts == text)).sum(-1)
            expected = share * math.exp(3 * log_evidence)
            assert abs(mass.mean() - expected) < 4.5 * mass.std(ddof=1) / num_runs**0.5 + 1e-12, (place, text)
    assert sum(posterior.marginal().values()) == pytest.approx(1.0)
    assert "Posterior by SMC" in repr(posterior)
