import json

import numpy as np
import pytest

import pyro_llm
from pyro_llm.diagnostics import to_datatree
from pyro_llm.diagnostics.datatree import variable_names

RUNS, PARTICLES = 3, 16


def test_schema(posterior):
    tree = to_datatree(posterior)
    assert set(tree.children) == {"posterior", "tokens", "sample_stats", "smc", "observed_data"}
    draws, stats, smc = tree["posterior"], tree["sample_stats"], tree["smc"]
    assert dict(draws.sizes)["chain"] == RUNS
    assert dict(draws.sizes)["draw"] == PARTICLES
    assert list(draws.data_vars) == ["length", "log_reward", "log_probability"]
    np.testing.assert_array_equal(draws["log_reward"], posterior.log_likelihood)
    np.testing.assert_array_equal(draws["log_probability"], posterior.log_prior)
    assert set(tree["tokens"].data_vars) == {*posterior.samples, "finished"}
    np.testing.assert_array_equal(tree["tokens"]["finished"], posterior.returns.finished)
    assert {"text", "answer"} <= set(draws.coords)
    assert tree["tokens"]["step_0"].dims == ("chain", "draw", "step_0_dim_0")
    np.testing.assert_array_equal(tree["tokens"]["step_1"], posterior.samples["step_1"])
    np.testing.assert_array_equal(draws["text"], posterior.texts)
    by_particle = {"log_weight", "ancestor", "log_prior", "log_likelihood", "lp"}
    assert {name for name, variable in stats.data_vars.items() if variable.dims == ("chain", "draw")} == by_particle
    by_chain = {"log_marginal_likelihood", "ess"}
    assert {name for name, variable in stats.data_vars.items() if variable.dims == ("chain",)} == by_chain
    by_step = {"ess", "log_evidence_increment", "resampled", "unique_ancestors"}
    assert {name for name, variable in smc.data_vars.items() if variable.dims == ("chain", "step")} == by_step
    by_slot = {"ancestor", "log_factor", "log_weight", "step_text"}
    assert {name for name, variable in smc.data_vars.items() if variable.dims == ("chain", "step", "draw")} == by_slot
    assert smc["site"].values.tolist() == posterior.stats.names
    assert set(tree["observed_data"].data_vars) == set(posterior.observed)


def test_values_agree_with_each_other(posterior):
    tree = to_datatree(posterior)
    stats, smc = tree["sample_stats"], tree["smc"]
    np.testing.assert_allclose(np.exp(stats["log_weight"]).sum("draw"), 1.0)
    np.testing.assert_allclose(smc["log_evidence_increment"].sum("step"), stats["log_marginal_likelihood"])
    np.testing.assert_allclose(stats["lp"], stats["log_prior"] + stats["log_likelihood"])
    np.testing.assert_allclose(stats["ess"], smc["ess"].isel(step=-1))
    # The factors along each particle's ancestry are its likelihood.
    for chain in range(RUNS):
        for draw in range(PARTICLES):
            slot, total = draw, 0.0
            for step in reversed(range(smc.sizes["step"])):
                slot = int(smc["ancestor"][chain, step, slot])
                total += float(smc["log_factor"][chain, step, slot])
            assert slot == int(stats["ancestor"][chain, draw])
            assert total == pytest.approx(float(stats["log_likelihood"][chain, draw]))
    distinct = [len(set(row)) for row in stats["ancestor"].values.tolist()]
    assert smc["unique_ancestors"][:, 0].values.tolist() == distinct


def test_attributes_are_plain_and_complete(posterior):
    attributes = to_datatree(posterior).attrs
    assert json.loads(attributes["settings"]) == posterior.settings
    assert json.loads(attributes["cost"])["lm_tokens_sampled"] == posterior.cost.lm_tokens_sampled > 0
    assert json.loads(attributes["prompt"]) == "47 + 48?"
    assert attributes["algorithm"] == "SMC"
    assert attributes["inference_library"] == "pyro_llm"
    assert all(isinstance(value, str | int) for value in attributes.values())


def test_functionals(posterior):
    found = {"answer": pyro_llm.answer, "right": lambda text: "95" in text, "words": lambda text: len(text.split())}
    draws = to_datatree(posterior, found)["posterior"]
    assert draws["right"].dtype == np.int8  # ArviZ 1 cannot summarise truth values
    assert draws["words"].dtype == int
    assert {"right", "words"} <= set(draws.data_vars)
    texts, answers = draws["text"].values.ravel(), draws["answer"].values.ravel()
    assert [pyro_llm.answer(text) or "" for text in texts] == answers.tolist()
    assert set(answers) == {"95", "$x_1$", ""}
    with pytest.raises(ValueError, match="chain"):
        to_datatree(posterior, {"chain": len})


def test_odd_site_names(numeric_posterior):
    draws = to_datatree(numeric_posterior)["posterior"]
    sites = {variable.attrs["site"]: name for name, variable in draws.data_vars.items() if "site" in variable.attrs}
    assert set(sites) == set(numeric_posterior.samples)
    for site, name in sites.items():
        np.testing.assert_array_equal(draws[name], numeric_posterior.samples[site])
    assert sites["x"] == "x"
    assert "returned" in draws
    assert "text" not in draws


def test_variable_names_are_distinct_and_legal():
    names = variable_names(["a/b", "a_b", "a b", "", ".", "x_dim_0", "chain", "ü.w"], {"chain"})
    assert len(set(names.values())) == len(names)
    assert "chain" not in names.values()
    assert not any("/" in name or name.endswith("_dim_0") or name in ("", ".") for name in names.values())
    assert names["ü.w"] == "ü.w"
