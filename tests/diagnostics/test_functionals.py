import pyro
import pyro.distributions as dist
import pytest
import torch

from pyro_llm.diagnostics import to_datatree
from pyro_llm.diagnostics.agreement import scalar_functionals
from pyro_llm.distributions import LLM
from pyro_llm.errors import OptionError
from pyro_llm.infer import SMC
from pyro_llm.lm import TableLM

POSITIVE = {"positive": lambda value: value > 0}


def test_functionals_of_no_text_are_refused(numeric_posterior):
    for read in (numeric_posterior.diagnose, numeric_posterior.to_datatree, numeric_posterior.to_arviz):
        with pytest.raises(OptionError, match=r"'positive' do not apply: the program returns no text"):
            read(POSITIVE)
        read({})


def test_what_is_no_functional_is_refused(posterior):
    for wrong in ({"answer": "95"}, ["length"], len):
        with pytest.raises(OptionError, match="give functions of a text by name"):
            posterior.diagnose(wrong)


def test_r_hat_is_of_numbers(make_posterior):
    four = make_posterior(num_runs=4)
    with pytest.raises(OptionError, match=r"'words' gives .*R-hat is of numbers"):
        four.diagnose({"words": str.split})
    assert "words" in four.to_datatree({"words": str.split})["posterior"].coords
    assert "R-hat of right over runs" in four.diagnose({"right": lambda text: "95" in text}).figures


def test_of_several_texts_a_particle_r_hat_knows_no_functional():
    lm = TableLM(lambda tokens: [0.5, 0.5], ["a", "b"], None)

    def model():
        state = lm.prompt("q").expand((3,))
        with pyro.plate("texts", 3):
            return state.append(pyro.sample("step", LLM(lm, state, max_tokens=2)))

    posterior = SMC(model, 8, num_runs=4, max_plate_nesting=1).run()
    with pytest.raises(OptionError, match="plates give each particle several texts"):
        posterior.diagnose({"a": lambda text: "a" in text})
    assert to_datatree(posterior, {"a": lambda text: "a" in text})["posterior"]["a"].shape == (4, 8, 3)


def test_real_sites_stand_beside_a_text():
    lm = TableLM(lambda tokens: [0.5, 0.5], ["a", "b"], None)

    def model():
        pyro.sample("m", dist.Normal(0.0, 1.0))
        pyro.sample("length", dist.Normal(0.0, 1.0))
        pyro.sample("pair", dist.Normal(torch.zeros(2), 1.0).to_event(1))
        state = lm.prompt("q")
        return state.append(pyro.sample("step", LLM(lm, state, max_tokens=2)))

    posterior = SMC(model, 8, num_runs=4).run()
    columns = scalar_functionals(posterior)
    assert list(columns) == ["length", "log_reward", "log_probability", "m", "site length"]
    assert columns["m"].tolist() == posterior.samples["m"].double().tolist()
    assert (columns["length"] == 2).all()
